/** Predict, decide, activate and feedback on a Noregret platform, from browsers and Node. */
export { NoregretClient, type Options, type Said } from "./client.js";
export type { Asked, Calling, Choice, Decided, Feedback, FeedbackState, ItemResult, Json, Prediction, Row, Value, } from "./documents.js";
export { Conflict, DeadlineExceeded, type FieldError, InvalidRequest, NoregretError, NotAuthorized, NotFound, PlatformUnavailable, Problem, Unreachable, } from "./errors.js";
export type { Batching, FailedFeedback, FailedStatus } from "./feedback-queue.js";
export type { Retries } from "./sending.js";
