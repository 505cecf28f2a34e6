/**
 * Models from ONNX files, by a runtime that the page gives: `() => import("onnxruntime-web/wasm")`.
 * Nothing of it is loaded before.
 */
import { ModelFailed } from "./errors.js";
/** A graph that takes all features in one input, or an input a column. */
export class OnnxModel {
    runtime;
    session;
    outputs;
    constructor(runtime, session, outputs) {
        this.runtime = runtime;
        this.session = session;
        this.outputs = outputs;
    }
    /** Throws ModelFailed. */
    static async load(runtime, file, outputs) {
        // More threads would need a page that is isolated from all other origins.
        runtime.env.wasm.numThreads = 1;
        try {
            const session = await runtime.InferenceSession.create(file, { executionProviders: ["wasm"], logSeverityLevel: 3 });
            return new OnnxModel(runtime, session, outputs);
        }
        catch (error) {
            throw new ModelFailed(`the model can't be loaded: ${String(error)}`, { cause: error });
        }
    }
    async predict(rows) {
        const names = this.session.outputNames.slice(0, this.outputs.length);
        let tensors;
        try {
            tensors = await this.session.run(this.#fed(rows), names);
        }
        catch (error) {
            throw new ModelFailed(String(error), { cause: error });
        }
        const outputs = {};
        this.outputs.forEach((output, i) => (outputs[output] = nested(tensors[names[i]], output === "predict")));
        return outputs;
    }
    #fed(rows) {
        const inputs = this.session.inputMetadata;
        const shape = inputs[0]?.shape ?? [];
        if (inputs.length === 1 && shape.length > 1 && shape[1] !== 1) {
            return { [inputs[0].name]: this.#tensor(inputs[0].type, rows.flat(), [rows.length, rows[0].length]) };
        }
        const fed = {};
        for (const [i, { name, type, shape }] of inputs.entries()) {
            const column = rows.map((row) => row[i] ?? null);
            fed[name] = this.#tensor(type, column, shape?.length === 1 ? [rows.length] : [rows.length, 1]);
        }
        return fed;
    }
    #tensor(type, values, dims) {
        return new this.runtime.Tensor(type ?? "float32", dataOf(type ?? "float32", values), dims);
    }
}
function dataOf(type, values) {
    const numbers = () => values.map((value) => (value === null ? Number.NaN : numberOf(value)));
    switch (type) {
        case "float32":
            return Float32Array.from(numbers());
        case "float64":
            return Float64Array.from(numbers());
        case "int32":
            return Int32Array.from(numbers(), whole);
        case "int64":
            return BigInt64Array.from(numbers(), (value) => BigInt(whole(value)));
        case "bool":
            return Uint8Array.from(numbers(), (value) => Number(value !== 0));
        case "string":
            return values.map((value) => (value === null ? "" : String(value)));
        default:
            throw new ModelFailed(`inputs of ${type} are not known to this version of the client`);
    }
}
function numberOf(value) {
    if (typeof value === "string")
        throw new ModelFailed("numbers were expected");
    return Number(value);
}
function whole(value) {
    if (!Number.isSafeInteger(value))
        throw new ModelFailed("whole numbers were expected");
    return value;
}
/** A tensor as lists of lists; what is predicted of a row is one value. */
function nested(tensor, isOneEach) {
    const values = Array.from(tensor.data, (value) => (typeof value === "bigint" ? Number(value) : value));
    let dims = tensor.dims;
    if (isOneEach && dims.length === 2 && dims[1] === 1)
        dims = dims.slice(0, 1);
    return dims.slice(1).reduceRight((flat, size) => {
        const lists = [];
        for (let at = 0; at < flat.length; at += size)
            lists.push(flat.slice(at, at + size));
        return lists;
    }, values);
}
