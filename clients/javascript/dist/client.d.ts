/** The client: each call of the serving API. */
import type { Asked, Calling, Choice, ItemResult, Json, Prediction, Row } from "./documents.js";
import { type Batching, type FailedFeedback } from "./feedback-queue.js";
import { type Retries } from "./sending.js";
export interface Options {
    /** As `https://noregret.example.com`; empty: the page's own origin. */
    url: string;
    /** A browser's key is public: give it the scopes `predict` and `feedback` alone, and its endpoints. None: a proxy adds it. */
    key?: string;
    /** Milliseconds of a whole call. */
    timeout?: number;
    retries?: Partial<Retries>;
    batching?: Partial<Batching>;
    /** Told of feedback that taught nothing; without it a warning is logged. */
    onFeedbackFailed?: (failed: FailedFeedback) => void;
    /** Send predict and decide again also where the answer was lost: the ledger may then hold a decision that nobody saw. */
    resendLostDecisions?: boolean;
    fetch?: typeof fetch;
}
/** What feedback has beside its decision and value. */
export interface Said {
    metric?: string;
    occurred_at?: Date | string;
}
export declare class NoregretClient {
    #private;
    constructor(options: Options);
    /** Routes to an arm, which answers the rows. One decision, however many rows. */
    predict(endpoint: string, inputs: readonly Row[], asked?: Asked & Calling): Promise<Prediction>;
    /** Routes to an arm, whose payload is answered. */
    decide<P = Json>(endpoint: string, asked?: Asked & Calling): Promise<Choice<P>>;
    /** Says that decisions made with `activate: false` were shown. */
    activate(decisionIds: readonly string[], calling?: Calling): Promise<ItemResult[]>;
    /** Says how a decision went, now: `recorded` (committed), `duplicate` or `late`. */
    feedback(decisionId: string, value: number | boolean, said?: Said & Calling): Promise<string>;
    /** Says it in a batch, soon, also where the page is left before. Never waits; false where the queue is full. */
    feedbackLater(decisionId: string, value: number | boolean, said?: Said): boolean;
    /** Resolves when the feedback so far is sent or told. */
    flush(): Promise<void>;
    /** Sends what waits, and listens to the page no more. */
    close(): Promise<void>;
}
