/** An endpoint on the device: in a browser's page or worker, and in Node. */

export type { Artifact, Bundle, BundleArm, Context, Reward, Verify } from "./bundle.js";
export { ContextInvalid, type Route } from "./choosing.js";
export { type EdgeChoice, EdgeClient, type EdgeOptions, type EdgePrediction } from "./client.js";
export { BundleNotTrusted, EdgeError, ModelFailed, NoBundle, NotRunnable, WrongFile } from "./errors.js";
export { CacheShelf, MemoryShelf, type Shelf } from "./files.js";
export { IndexedState } from "./indexed-state.js";
export { MemoryState } from "./memory-state.js";
export type { Uploaded } from "./outbox.js";
export type { EdgeAsked } from "./request.js";
export type { KeptArm, State } from "./state.js";
