/**
 * Models from ONNX files, by a runtime that the page gives: `() => import("onnxruntime-web/wasm")`.
 * Nothing of it is loaded before.
 */
import type { Value } from "../documents.js";
import type { Model, Outputs } from "./models.js";
/** What is needed of onnxruntime-web, or of onnxruntime-node, which has the same interface. */
export interface OnnxRuntime {
    Tensor: new (type: string, data: unknown, dims: readonly number[]) => OnnxTensor;
    InferenceSession: {
        create(model: Uint8Array, options: {
            executionProviders: string[];
            [option: string]: unknown;
        }): Promise<OnnxSession>;
    };
    env: {
        logLevel?: string;
        wasm: {
            numThreads?: number;
            [option: string]: unknown;
        };
    };
}
export interface OnnxTensor {
    readonly type: string;
    readonly dims: readonly number[];
    readonly data: ArrayLike<number | bigint | string>;
}
export interface OnnxSession {
    readonly outputNames: readonly string[];
    readonly inputMetadata: readonly {
        name: string;
        isTensor: boolean;
        type?: string;
        shape?: readonly (number | string)[];
    }[];
    run(feeds: Record<string, OnnxTensor>, fetches: readonly string[]): Promise<Record<string, OnnxTensor>>;
}
/** A graph that takes all features in one input, or an input a column. */
export declare class OnnxModel implements Model {
    #private;
    private readonly runtime;
    private readonly session;
    private readonly outputs;
    private constructor();
    /** Throws ModelFailed. */
    static load(runtime: OnnxRuntime, file: Uint8Array, outputs: readonly string[]): Promise<OnnxModel>;
    predict(rows: readonly (readonly Value[])[]): Promise<Outputs>;
}
