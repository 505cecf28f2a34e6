/**
 * An endpoint on the device: it decides and predicts here, without a network, and tells the
 * platform later.
 */
import type { Choice, Json, Prediction, Row } from "../documents.js";
import { type Retries } from "../sending.js";
import { type Bundle, type Verify } from "./bundle.js";
import type { Uniform } from "./choosing.js";
import { type Shelf } from "./files.js";
import { type Uploaded } from "./outbox.js";
import { type EdgeAsked } from "./request.js";
import type { State } from "./state.js";
import { type Keys } from "./trust.js";
export interface EdgeOptions {
    endpoint: string;
    /** As `https://noregret.example.com`; empty: the page's own origin. */
    url: string;
    /** With the scope `edge` alone: whoever has the page has the key. */
    key?: string;
    /**
     * Runs ONNX models: `() => import("onnxruntime-web/wasm")`. Without it arms that need one are
     * excluded. Called when the first is.
     */
    runtime?: () => Promise<unknown>;
    /**
     * By id in base64url, those that trust begins with; without them it begins with those that the
     * platform tells first. Bundles that they signed tell the next. Other keys here begin anew.
     */
    publicKeys?: Keys;
    /** In place of the browser's own Ed25519. */
    verify?: Verify;
    /** Milliseconds of a call. */
    timeout?: number;
    retries?: Partial<Retries>;
    /** So many decisions wait to be told at most; past that they are made, and not learnable. */
    limit?: number;
    /** Milliseconds after which an event is sent by itself; null: when `upload` is called alone. */
    uploadAfter?: number | null;
    /** Told of each upload. */
    onUploaded?: (uploaded: Uploaded) => void;
    /** Gives numbers in [0, 1), for draws. */
    uniform?: Uniform;
    /** Where bundle, units and events are kept: IndexedDB where the browser allows it, else memory. */
    state?: State;
    /** Where model files are kept: Cache storage where the browser allows it, else memory. */
    shelf?: Shelf;
    fetch?: typeof fetch;
}
export type EdgeChoice<P = Json> = Omit<Choice<P>, "stale">;
export type EdgePrediction = Omit<Prediction, "stale">;
export declare class EdgeClient {
    #private;
    constructor(options: EdgeOptions);
    /**
     * Fetches the bundle, and the files that it names and are not here; false where nothing is new.
     * While an earlier bundle is in force, one whose files can't all be had waits; after that its
     * other arms are used. Throws Problem, Unreachable, BundleNotTrusted, WrongFile.
     */
    refresh(): Promise<boolean>;
    /** Unix time in milliseconds by the platform's clock, as it was when it was last asked. */
    now(): number;
    /** The bundle that is in force. Throws NoBundle. */
    bundle(): Promise<Bundle>;
    /**
     * An arm and its payload. Throws NoBundle, NotRunnable where no arm is left, ContextInvalid, and
     * TypeError for a field that the platform would not take.
     */
    decide<P = Json>(asked?: EdgeAsked): Promise<EdgeChoice<P>>;
    /**
     * An arm's answer for these rows, as the platform's predict takes them. Arms that this device
     * can't run are excluded; where the arm's model fails the control answers, and the decision
     * teaches nothing. Throws NoBundle, NotRunnable, ContextInvalid, and TypeError for rows that are
     * none of the models' and for a field that the platform would not take.
     */
    predict(rows: readonly Row[], asked?: EdgeAsked): Promise<EdgePrediction>;
    /**
     * Keeps how a decision of this device went, to be told; false where the decision is not known
     * here, or this metric of it waits already. Throws TypeError for a value or a metric that the
     * platform would not take.
     */
    feedback(decisionId: string, value: number | boolean, metric?: string | null): Promise<boolean>;
    /**
     * Does this device remember when the page is closed? False where the browser refuses its storage:
     * then bundle, units' arms and events are in memory, for this visit alone.
     */
    isKept(): Promise<boolean>;
    /** Events that are still to be told. */
    waiting(): Promise<number>;
    /**
     * Tells what waits, in batches. What was told is forgotten here once the platform has committed
     * it. Throws Problem, Unreachable.
     */
    upload(): Promise<Uploaded>;
    /** Sends nothing by itself any more. What waits is kept. */
    close(): void;
}
