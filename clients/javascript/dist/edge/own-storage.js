/**
 * Where a client keeps its own: in the browser's storage, and where the browser refuses that (by a
 * setting, in a private window, in a frame, when it is full) in memory, for as long as the page is
 * open.
 */
import { EdgeError } from "./errors.js";
import { CacheShelf, MemoryShelf } from "./files.js";
import { IndexedState } from "./indexed-state.js";
import { MemoryState } from "./memory-state.js";
/** A device's state, in IndexedDB where there is one. */
export class OwnState {
    #chosen;
    /** What it refused to put away. */
    #refused = new Map();
    constructor(name, limit) {
        this.#chosen = chosen(name, limit);
    }
    /** Does it outlive the page? */
    async isKept() {
        return (await this.#chosen).isKept && this.#refused.size === 0;
    }
    async #state() {
        return (await this.#chosen).state;
    }
    async get(...names) {
        const values = await (await this.#state()).get(...names);
        return values.map((value, i) => this.#refused.get(names[i]) ?? value);
    }
    async put(values) {
        const isPut = (await this.#state()).put(values).then(() => true);
        const isKept = await unlessRefused(isPut, () => false);
        for (const [name, value] of Object.entries(values)) {
            if (isKept)
                this.#refused.delete(name);
            else
                this.#refused.set(name, value);
        }
    }
    /** Full: the unit's first arm follows from its hash, and so it gets the same one next time. */
    async arm(experiment, unit, isGood, draw) {
        return unlessRefused((await this.#state()).arm(experiment, unit, isGood, draw), draw);
    }
    async addDecision(decision) {
        return unlessRefused((await this.#state()).addDecision(decision), () => false);
    }
    async addReward(decision, metric, event, check) {
        return unlessRefused((await this.#state()).addReward(decision, metric, event, check), () => false);
    }
    async batch(most, without) {
        return (await this.#state()).batch(most, without);
    }
    async told(keys) {
        return (await this.#state()).told(keys);
    }
    async forget(now) {
        return (await this.#state()).forget(now);
    }
    async waiting() {
        return (await this.#state()).waiting();
    }
}
async function chosen(name, limit) {
    try {
        const state = new IndexedState(name, limit);
        await state.get("tag");
        return { state, isKept: true };
    }
    catch (error) {
        if (error instanceof EdgeError)
            return { state: new IndexedState(name, limit), isKept: true }; // which says so at each call
        return { state: new MemoryState(limit), isKept: false };
    }
}
/** Model files, in Cache storage where there is one. What it does not take is in memory. */
export class OwnShelf {
    #memory = new MemoryShelf();
    #cache;
    constructor(name) {
        this.#cache = new CacheShelf(name);
    }
    async get(name) {
        return (await this.#memory.get(name)) ?? (await unlessRefused(this.#cache.get(name), () => null));
    }
    async put(name, body) {
        await unlessRefused(this.#cache.put(name, body), () => this.#memory.put(name, body));
    }
    async names() {
        return [...(await this.#memory.names()), ...(await unlessRefused(this.#cache.names(), () => []))];
    }
    async delete(name) {
        await this.#memory.delete(name);
        await unlessRefused(this.#cache.delete(name), () => undefined);
    }
}
async function unlessRefused(work, otherwise) {
    try {
        return await work;
    }
    catch (error) {
        if (!isRefusal(error))
            throw error;
        return otherwise();
    }
}
/** Where there is no storage at all, as in Node, its name means nothing. */
function isRefusal(error) {
    return error instanceof ReferenceError || error instanceof DOMException;
}
