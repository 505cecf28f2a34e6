/**
 * Models from ONNX files, by a runtime that the page gives: `() => import("onnxruntime-web/wasm")`.
 * Nothing of it is loaded before.
 */

import type { Value } from "../documents.js";
import { ModelFailed } from "./errors.js";
import type { Model, Outputs } from "./models.js";

/** What is needed of onnxruntime-web, or of onnxruntime-node, which has the same interface. */
export interface OnnxRuntime {
  Tensor: new (type: string, data: unknown, dims: readonly number[]) => OnnxTensor;
  InferenceSession: {
    create(model: Uint8Array, options: { executionProviders: string[]; [option: string]: unknown }): Promise<OnnxSession>;
  };
  env: { logLevel?: string; wasm: { numThreads?: number; [option: string]: unknown } };
}

export interface OnnxTensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: ArrayLike<number | bigint | string>;
}

export interface OnnxSession {
  readonly outputNames: readonly string[];
  readonly inputMetadata: readonly { name: string; isTensor: boolean; type?: string; shape?: readonly (number | string)[] }[];
  run(feeds: Record<string, OnnxTensor>, fetches: readonly string[]): Promise<Record<string, OnnxTensor>>;
}

/** A graph that takes all features in one input, or an input a column. */
export class OnnxModel implements Model {
  private constructor(
    private readonly runtime: OnnxRuntime,
    private readonly session: OnnxSession,
    private readonly outputs: readonly string[],
  ) {}

  /** Throws ModelFailed. */
  static async load(runtime: OnnxRuntime, file: Uint8Array, outputs: readonly string[]): Promise<OnnxModel> {
    // More threads would need a page that is isolated from all other origins.
    runtime.env.wasm.numThreads = 1;
    try {
      const session = await runtime.InferenceSession.create(file, { executionProviders: ["wasm"], logSeverityLevel: 3 });
      return new OnnxModel(runtime, session, outputs);
    } catch (error) {
      throw new ModelFailed(`the model can't be loaded: ${String(error)}`, { cause: error });
    }
  }

  async predict(rows: readonly (readonly Value[])[]): Promise<Outputs> {
    const names = this.session.outputNames.slice(0, this.outputs.length);
    let tensors: Record<string, OnnxTensor>;
    try {
      tensors = await this.session.run(this.#fed(rows), names);
    } catch (error) {
      throw new ModelFailed(String(error), { cause: error });
    }
    const outputs: Outputs = {};
    this.outputs.forEach((output, i) => (outputs[output] = nested(tensors[names[i]!]!, output === "predict")));
    return outputs;
  }

  #fed(rows: readonly (readonly Value[])[]): Record<string, OnnxTensor> {
    const inputs = this.session.inputMetadata;
    const shape = inputs[0]?.shape ?? [];
    if (inputs.length === 1 && shape.length > 1 && shape[1] !== 1) {
      return { [inputs[0]!.name]: this.#tensor(inputs[0]!.type, rows.flat(), [rows.length, rows[0]!.length]) };
    }
    const fed: Record<string, OnnxTensor> = {};
    for (const [i, { name, type, shape }] of inputs.entries()) {
      const column = rows.map((row) => row[i] ?? null);
      fed[name] = this.#tensor(type, column, shape?.length === 1 ? [rows.length] : [rows.length, 1]);
    }
    return fed;
  }

  #tensor(type: string | undefined, values: readonly Value[], dims: readonly number[]): OnnxTensor {
    return new this.runtime.Tensor(type ?? "float32", dataOf(type ?? "float32", values), dims);
  }
}

function dataOf(type: string, values: readonly Value[]): unknown {
  const numbers = (): number[] => values.map((value) => (value === null ? Number.NaN : numberOf(value)));
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

function numberOf(value: Exclude<Value, null>): number {
  if (typeof value === "string") throw new ModelFailed("numbers were expected");
  return Number(value);
}

function whole(value: number): number {
  if (!Number.isSafeInteger(value)) throw new ModelFailed("whole numbers were expected");
  return value;
}

/** A tensor as lists of lists; what is predicted of a row is one value. */
function nested(tensor: OnnxTensor, isOneEach: boolean): unknown[] {
  const values = Array.from(tensor.data, (value) => (typeof value === "bigint" ? Number(value) : value));
  let dims = tensor.dims;
  if (isOneEach && dims.length === 2 && dims[1] === 1) dims = dims.slice(0, 1);
  return dims.slice(1).reduceRight<unknown[]>((flat, size) => {
    const lists: unknown[][] = [];
    for (let at = 0; at < flat.length; at += size) lists.push(flat.slice(at, at + size));
    return lists;
  }, values);
}
