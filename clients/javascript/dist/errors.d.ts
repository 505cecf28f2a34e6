/** What can go wrong with a call. */
/** A wrong field, as a dotted path, and what was expected of it. */
export interface FieldError {
    readonly field: string;
    readonly message: string;
}
/** Anything that this client throws by itself. */
export declare class NoregretError extends Error {
    name: string;
}
/** Nobody answered. `maybeDone`: the request may have been carried out all the same. */
export declare class Unreachable extends NoregretError {
    readonly maybeDone: boolean;
    name: string;
    constructor(message: string, maybeDone: boolean, options?: ErrorOptions);
}
/** The call's own time was over before an answer was there. */
export declare class DeadlineExceeded extends Unreachable {
    name: string;
}
/** A problem document (RFC 9457) of the platform. `retryAfter` is in milliseconds. */
export declare class Problem extends NoregretError {
    readonly status: number;
    readonly type: string;
    readonly title: string;
    readonly detail: string;
    readonly errors: readonly FieldError[];
    readonly retryAfter: number | null;
    name: string;
    constructor(status: number, type: string, title: string, detail: string, errors: readonly FieldError[], retryAfter: number | null);
    /** The first field that is wrong, null where no field is. */
    get field(): string | null;
    /** What was expected of that field. */
    get expected(): string | null;
}
/** 400, 408, 413, 415, 422: the request can't be used as it is. */
export declare class InvalidRequest extends Problem {
    name: string;
}
/** 401, 403: the key is missing or wrong, or lacks a scope. */
export declare class NotAuthorized extends Problem {
    name: string;
}
/** 404 */
export declare class NotFound extends Problem {
    name: string;
}
/** 409: the present state does not allow it. */
export declare class Conflict extends Problem {
    name: string;
}
/** 429 and 5xx: the platform, or what stands before it, can't answer now. */
export declare class PlatformUnavailable extends Problem {
    name: string;
}
/** A refusal as an error, also where a proxy answered it that knows no problem documents. */
export declare function problemOf(status: number, statusText: string, body: string, retryAfter: string | null): Problem;
