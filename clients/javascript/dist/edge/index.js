/** An endpoint on the device: in a browser's page or worker, and in Node. */
export { ContextInvalid } from "./choosing.js";
export { EdgeClient } from "./client.js";
export { BundleNotTrusted, EdgeError, ModelFailed, NoBundle, NotRunnable, WrongFile } from "./errors.js";
export { CacheShelf, MemoryShelf } from "./files.js";
export { IndexedState } from "./indexed-state.js";
export { MemoryState } from "./memory-state.js";
