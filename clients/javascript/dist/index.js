/** Predict, decide, activate and feedback on a Noregret platform, from browsers and Node. */
export { NoregretClient } from "./client.js";
export { Conflict, DeadlineExceeded, InvalidRequest, NoregretError, NotAuthorized, NotFound, PlatformUnavailable, Problem, Unreachable, } from "./errors.js";
