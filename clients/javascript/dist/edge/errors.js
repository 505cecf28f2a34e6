/** What can go wrong on a device, beside what can go wrong with a call. */
import { NoregretError } from "../errors.js";
/** This device can't decide. */
export class EdgeError extends NoregretError {
    name = "EdgeError";
}
/** There is none yet, or its time is over: refresh. */
export class NoBundle extends EdgeError {
    name = "NoBundle";
}
/** No arm that may serve this request can be run on this device. */
export class NotRunnable extends EdgeError {
    name = "NotRunnable";
}
/** The model could not answer these rows. */
export class ModelFailed extends EdgeError {
    name = "ModelFailed";
}
/**
 * The bundle is not signed by a key that is trusted, or was changed on its way, or this browser
 * can't tell.
 */
export class BundleNotTrusted extends EdgeError {
    name = "BundleNotTrusted";
}
/** What came is not the file of this hash. */
export class WrongFile extends EdgeError {
    name = "WrongFile";
}
