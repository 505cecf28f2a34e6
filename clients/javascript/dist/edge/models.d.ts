/**
 * Runs an arm's model on the device: a linear one from its parameters, in plain JavaScript; any
 * other from its ONNX file.
 */
import type { Row, Value } from "../documents.js";
import type { Bundle, LinearForm } from "./bundle.js";
/** A value a row under each output's name. */
export type Outputs = {
    [output: string]: unknown[];
};
/**
 * Answers rows, their values in the order of the model's features or columns. Throws ModelFailed.
 */
export interface Model {
    predict(rows: readonly (readonly Value[])[]): Promise<Outputs>;
}
/** Rows as lists in the models' order, of lists or of objects by name. Throws TypeError. */
export declare function valuesOf(bundle: Bundle, rows: readonly Row[]): Value[][];
/** A weighted sum of features for each output, and what makes answers of the sums. */
export declare class LinearModel implements Model {
    #private;
    private readonly form;
    constructor(form: LinearForm, outputs: readonly string[]);
    predict(rows: readonly (readonly Value[])[]): Promise<Outputs>;
}
