/** One call: requests within one deadline, tried again only where a second try can do no harm. */
export interface Retries {
    tries: number;
    /** Milliseconds; pauses double from the first, each drawn at random between half of it and all. */
    firstPause: number;
    longestPause: number;
}
export interface Call {
    path: string;
    body: string;
    /** May it be sent again though the platform may have carried it out? */
    repeatable: boolean;
}
export interface Way {
    url: string;
    headers: Record<string, string>;
    fetch: typeof fetch;
    retries: Retries;
    /** Told of each answer, before it is read. */
    heard?: (answer: Response) => Promise<void>;
}
/** The answer's JSON. Throws Problem, Unreachable, or the reason of an aborted `signal`. */
export declare function send<T>(way: Way, call: Call, timeout: number, signal?: AbortSignal): Promise<T>;
/** What a try gives, which is told how many milliseconds are left, tried again where that can do no harm. */
export declare function repeated<T>(way: Way, call: Pick<Call, "repeatable">, timeout: number, once: (left: number) => Promise<T>, signal?: AbortSignal): Promise<T>;
export declare function pauseAfter(error: unknown, failures: number, retries: Retries): number;
/** One request. */
export declare function sendOnce<T>(way: Way, call: Call, timeout: number, signal?: AbortSignal, keepalive?: boolean): Promise<T>;
/** What `read` makes of the answer of one request, all within `timeout`. */
export declare function exchanged<T>(way: Way, path: string, init: RequestInit, timeout: number, signal: AbortSignal | undefined, read: (answer: Response) => Promise<T>): Promise<T>;
