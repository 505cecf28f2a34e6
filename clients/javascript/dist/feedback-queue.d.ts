/**
 * Feedback that is sent in batches. The queue is bounded; what fails is told. Where a page is hidden, which may be its end, what waits
 * goes at once: by a fetch with `keepalive`, which carries the key in its header, or without a key by `sendBeacon`.
 */
import type { Feedback } from "./documents.js";
import { type Way } from "./sending.js";
/** How feedback is sent in batches; times in milliseconds. */
export interface Batching {
    /** A batch goes when so many items wait, at most 1000, */
    size: number;
    /** or when the oldest has waited so long. */
    wait: number;
    /** With so many waiting a further one is not taken, and told as `queue_full`. */
    mostQueued: number;
    /** A batch that can't be sent is tried again for so long. */
    retryFor: number;
}
export type FailedStatus = "late" | "conflict" | "not_learnable" | "unknown" | "invalid" | "refused" | "unreachable" | "queue_full";
/** Feedback that taught nothing, and why. */
export interface FailedFeedback {
    feedback: Feedback;
    status: FailedStatus;
    message: string;
}
export declare class FeedbackQueue {
    #private;
    private readonly way;
    private readonly timeout;
    private readonly batching;
    private readonly hasKey;
    private readonly onFailed;
    constructor(way: Way, timeout: number, batching: Batching, hasKey: boolean, onFailed: (failed: FailedFeedback) => void);
    /** Never waits. False where the queue is full, which is told, too. */
    put(item: Feedback): boolean;
    /** Resolves when everything that was put before is sent or told. */
    flush(): Promise<void>;
    /** Sends what is left, and listens to the page no more. */
    close(): Promise<void>;
}
