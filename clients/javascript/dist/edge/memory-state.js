/**
 * A device's state for as long as its process lives: in Node, and where a browser has no IndexedDB.
 */
import { batchOf, windowOf } from "./state.js";
export class MemoryState {
    limit;
    #settled = new Map();
    #units = new Map();
    #decisions = new Map();
    #rewards = new Map();
    #experiment = 0;
    #untold = 0;
    constructor(limit) {
        this.limit = limit;
    }
    async get(...names) {
        return names.map((name) => this.#settled.get(name) ?? null);
    }
    async put(values) {
        for (const [name, value] of Object.entries(values))
            this.#settled.set(name, value);
    }
    async arm(experiment, unit, isGood, draw) {
        if (experiment !== this.#experiment)
            this.#units.clear();
        this.#experiment = experiment;
        const kept = this.#units.get(unit);
        if (kept !== undefined && isGood(kept))
            return kept;
        const drawn = draw();
        this.#units.delete(unit);
        this.#units.set(unit, drawn);
        const [oldest] = this.#units.keys();
        if (this.#units.size > this.limit)
            this.#units.delete(oldest);
        return drawn;
    }
    async addDecision(decision) {
        if (this.#untold >= this.limit)
            return false;
        this.#decisions.set(decision.id, { ...decision });
        this.#untold++;
        return true;
    }
    async addReward(decision, metric, event, check) {
        const key = JSON.stringify([decision, metric]);
        const known = this.#decisions.get(decision);
        if (known === undefined)
            return false;
        check?.(known.reward ?? null);
        if (this.#rewards.has(key))
            return false;
        this.#rewards.set(key, { decision, metric, receipt: known.receipt, event });
        return true;
    }
    async batch(most, without = new Set()) {
        const decisions = [...this.#decisions.values()].flatMap(({ id, receipt, event }) => event === null ? [] : [{ receipt, key: [id, null], event }]);
        const rewards = [...this.#rewards.values()].map(({ decision, metric, receipt, event }) => ({
            receipt,
            key: [decision, metric],
            event,
        }));
        const waiting = [...decisions, ...rewards].filter(({ receipt }) => !without.has(receipt));
        const receipt = waiting[0]?.receipt;
        return receipt === undefined ? null : batchOf(receipt, waiting.filter((one) => one.receipt === receipt).slice(0, most));
    }
    async told(keys) {
        for (const [id, metric] of keys) {
            const decision = this.#decisions.get(id);
            if (metric !== null) {
                this.#rewards.delete(JSON.stringify([id, metric]));
            }
            else if (decision !== undefined && decision.event !== null) {
                decision.event = null;
                this.#untold--;
            }
        }
    }
    async forget(now) {
        const rewarded = new Set([...this.#rewards.values()].map((reward) => reward.decision));
        for (const { id, event, decidedAt, reward } of [...this.#decisions.values()]) {
            if (event === null && decidedAt + windowOf(reward) < now && !rewarded.has(id))
                this.#decisions.delete(id);
        }
    }
    async waiting() {
        return this.#untold + this.#rewards.size;
    }
}
