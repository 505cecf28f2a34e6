/** What is sent and answered, by the names that the HTTP API has. */
export type Json = string | number | boolean | null | readonly Json[] | {
    readonly [name: string]: Json;
};
/** A row's value: a number, an integer, a boolean, a text, or null for a gap. */
export type Value = number | boolean | string | null;
export type Row = readonly Value[] | Float32Array | Float64Array | Int32Array | {
    readonly [column: string]: Value;
};
/** What predict and decide take beside the rows. */
export interface Asked {
    unit?: string;
    context?: {
        readonly [name: string]: string | number | boolean | null;
    };
    /** One is made where none is given; all tries of a call have the same. */
    request_id?: string;
    /** Arms that are not for this request. */
    exclude?: readonly string[];
    /** False: the decision teaches nothing until `activate` says that it was shown. */
    activate?: boolean;
}
/** How a call is made. */
export interface Calling {
    /** Milliseconds of the whole call, with its retries and the pauses between them. */
    timeout?: number;
    signal?: AbortSignal;
}
export interface Decided {
    decision_id: string;
    endpoint: string;
    experiment: string | null;
    arm: string | null;
    model: string;
    strategy: string;
    propensity: number;
    policy_version: number;
    learnable: boolean;
    stale: boolean;
    fallback_reason: string | null;
}
export interface Prediction extends Decided {
    /** A value a row under each output's name. */
    outputs: {
        predict: Json[];
        [output: string]: Json[];
    };
}
export interface Choice<P = Json> extends Decided {
    payload: P;
}
export type FeedbackState = "recorded" | "duplicate" | "late" | "conflict" | "not_learnable" | "unknown" | "invalid";
export interface Feedback {
    decision_id: string;
    value: number | boolean;
    /** Defaults to the experiment's reward. */
    metric?: string;
    /** When it was observed, in RFC 3339. */
    occurred_at?: string;
}
export interface ItemResult {
    status: string;
    error: {
        field: string;
        message: string;
    } | null;
}
