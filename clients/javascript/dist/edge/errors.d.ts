/** What can go wrong on a device, beside what can go wrong with a call. */
import { NoregretError } from "../errors.js";
/** This device can't decide. */
export declare class EdgeError extends NoregretError {
    name: string;
}
/** There is none yet, or its time is over: refresh. */
export declare class NoBundle extends EdgeError {
    name: string;
}
/** No arm that may serve this request can be run on this device. */
export declare class NotRunnable extends EdgeError {
    name: string;
}
/** The model could not answer these rows. */
export declare class ModelFailed extends EdgeError {
    name: string;
}
/**
 * The bundle is not signed by a key that is trusted, or was changed on its way, or this browser
 * can't tell.
 */
export declare class BundleNotTrusted extends EdgeError {
    name: string;
}
/** What came is not the file of this hash. */
export declare class WrongFile extends EdgeError {
    name: string;
}
