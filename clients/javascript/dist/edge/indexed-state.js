/**
 * A device's state in the origin's IndexedDB: its tabs and workers share it, and it outlives them.
 */
import { blake2b } from "./blake2b.js";
import { EdgeError } from "./errors.js";
import { batchOf, windowOf } from "./state.js";
const VERSION = 1;
export class IndexedState {
    name;
    limit;
    #opened;
    #lastReceipt = ["", ""];
    constructor(name, limit) {
        this.name = name;
        this.limit = limit;
        this.#opened = opened(name);
        this.#opened.catch(() => undefined); // who asks for something is told
    }
    async close() {
        (await this.#opened).close();
    }
    get(...names) {
        return this.#do("readonly", ["settled"], async ({ settled }) => {
            const values = await Promise.all(names.map((name) => result(settled.get(name))));
            return values.map((value) => value ?? null);
        });
    }
    put(values) {
        return this.#do("readwrite", ["settled"], async ({ settled }) => {
            for (const [name, value] of Object.entries(values))
                settled.put(value, name);
        });
    }
    arm(experiment, unit, isGood, draw) {
        return this.#do("readwrite", ["units", "receipts"], async ({ units, receipts }) => {
            const row = (await result(units.get([experiment, unit])));
            if (row !== undefined) {
                const { text } = (await result(receipts.get(row.receipt)));
                const kept = { arm: row.arm, propensities: row.propensities, receipt: text, context: row.context };
                if (isGood(kept))
                    return kept;
            }
            const drawn = draw();
            units.put({ ...drawn, receipt: this.#receipt(receipts, drawn.receipt), experiment, unit, at: Date.now() });
            units.delete(IDBKeyRange.upperBound([experiment], true));
            units.delete(IDBKeyRange.lowerBound([experiment + 1]));
            if ((await result(units.count())) > this.limit) {
                const oldest = await result(units.index("at").openKeyCursor());
                if (oldest !== null)
                    units.delete(oldest.primaryKey);
            }
            return drawn;
        });
    }
    addDecision({ id, receipt, decidedAt, event, reward = null }) {
        return this.#do("readwrite", ["decisions", "receipts"], async ({ decisions, receipts }) => {
            if ((await result(decisions.index("place").count())) >= this.limit)
                return false;
            const row = { id, receipt: this.#receipt(receipts, receipt), decidedAt, place: Date.now(), event, reward };
            await result(decisions.add(row));
            return true;
        });
    }
    addReward(decision, metric, event, check) {
        return this.#do("readwrite", ["decisions", "rewards"], async ({ decisions, rewards }) => {
            const row = (await result(decisions.get(decision)));
            if (row === undefined)
                return false;
            check?.(row.reward ?? null);
            if ((await result(rewards.count([decision, metric]))) > 0)
                return false;
            const reward = { decision, metric, receipt: row.receipt, place: Date.now(), event };
            await result(rewards.add(reward));
            return true;
        });
    }
    batch(most, without = new Set()) {
        return this.#do("readonly", ["decisions", "rewards", "receipts"], async ({ decisions, rewards, receipts }) => {
            const firstOf = async (index, range) => {
                const cursors = [decisions, rewards].map((store) => result(store.index(index).openCursor(range)));
                return (await Promise.all(cursors)).flatMap((cursor) => (cursor === null ? [] : [cursor.value]));
            };
            const rangeOf = (receipt) => IDBKeyRange.bound([receipt], [receipt, Number.MAX_VALUE]);
            let firsts;
            if (without.size === 0) {
                firsts = await firstOf("place");
            }
            else {
                const known = (await result(receipts.getAll()));
                const others = known.filter(({ text }) => !without.has(text));
                firsts = (await Promise.all(others.map(({ id }) => firstOf("receipt-place", rangeOf(id))))).flat();
            }
            const [oldest] = firsts.sort((a, b) => a.place - b.place);
            if (oldest === undefined)
                return null;
            const range = rangeOf(oldest.receipt);
            const all = (store) => result(store.index("receipt-place").getAll(range, most));
            const waiting = [
                ...(await all(decisions)).map(({ id, event }) => ({ key: [id, null], event: event })),
                ...(await all(rewards)).map(({ decision, metric, event }) => ({ key: [decision, metric], event })),
            ];
            const { text } = (await result(receipts.get(oldest.receipt)));
            return batchOf(text, waiting.slice(0, most));
        });
    }
    told(keys) {
        return this.#do("readwrite", ["decisions", "rewards"], async ({ decisions, rewards }) => {
            for (const [id, metric] of keys) {
                if (metric !== null) {
                    rewards.delete([id, metric]);
                    continue;
                }
                const row = (await result(decisions.get(id)));
                if (row === undefined)
                    continue;
                const { receipt, decidedAt, reward = null } = row;
                decisions.put({ id, receipt, decidedAt, reward });
            }
        });
    }
    forget(now) {
        return this.#do("readwrite", ["decisions", "rewards", "units", "receipts"], async ({ decisions, rewards, units, receipts }) => {
            const names = await result(receipts.getAllKeys());
            // Decisions of one receipt have one window. Only where several differ rows are read that stay.
            const samples = await Promise.all(names.map((id) => result(decisions.index("receipt").get(id))));
            const shortest = Math.min(...samples.flatMap((row) => (row === undefined ? [] : [windowOf(row.reward)])));
            const old = (await result(decisions.index("decidedAt").getAll(IDBKeyRange.upperBound(now - shortest, true))));
            for (const { id, place, decidedAt, reward } of old) {
                if (place !== undefined || decidedAt + windowOf(reward) >= now)
                    continue;
                if ((await result(rewards.count(IDBKeyRange.bound([id], [id, []])))) === 0)
                    decisions.delete(id);
            }
            for (const id of names) {
                const counts = [decisions, rewards, units].map((store) => result(store.index("receipt").count(id)));
                if ((await Promise.all(counts)).every((count) => count === 0))
                    receipts.delete(id);
            }
        });
    }
    waiting() {
        return this.#do("readonly", ["decisions", "rewards"], async ({ decisions, rewards }) => {
            return (await result(decisions.index("place").count())) + (await result(rewards.count()));
        });
    }
    /** Many rows name one receipt, which may be long. */
    #receipt(receipts, text) {
        if (this.#lastReceipt[0] !== text) {
            const digest = blake2b(new TextEncoder().encode(text)).slice(0, 16);
            this.#lastReceipt = [text, Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("")];
        }
        const [, id] = this.#lastReceipt;
        receipts.put({ id, text });
        return id;
    }
    /** Browsers close a database by themselves, as where its site's data are cleared. */
    async #transaction(mode, names) {
        const mine = this.#opened;
        try {
            return (await mine).transaction(names, mode);
        }
        catch (error) {
            if (!(error instanceof DOMException && error.name === "InvalidStateError"))
                throw error;
            if (mine === this.#opened)
                this.#opened = opened(this.name);
            return (await this.#opened).transaction(names, mode);
        }
    }
    /** One transaction, which is committed when this resolves. */
    async #do(mode, names, work) {
        const transaction = await this.#transaction(mode, names);
        const committed = new Promise((resolve, reject) => {
            transaction.oncomplete = () => resolve();
            transaction.onabort = () => reject(transaction.error ?? new EdgeError("the browser's storage took it back"));
        });
        committed.catch(() => undefined);
        let value;
        try {
            value = await work(Object.fromEntries(names.map((name) => [name, transaction.objectStore(name)])));
        }
        catch (error) {
            try {
                transaction.abort();
            }
            catch {
                // It was over already.
            }
            throw error;
        }
        await committed;
        return value;
    }
}
async function opened(name) {
    const request = indexedDB.open(name, VERSION);
    request.onupgradeneeded = () => {
        const database = request.result;
        database.createObjectStore("settled");
        database.createObjectStore("receipts", { keyPath: "id" });
        const units = database.createObjectStore("units", { keyPath: ["experiment", "unit"] });
        const decisions = database.createObjectStore("decisions", { keyPath: "id" });
        const rewards = database.createObjectStore("rewards", { keyPath: ["decision", "metric"] });
        units.createIndex("at", "at");
        decisions.createIndex("decidedAt", "decidedAt");
        for (const store of [units, decisions, rewards])
            store.createIndex("receipt", "receipt");
        for (const store of [decisions, rewards]) {
            store.createIndex("place", "place");
            store.createIndex("receipt-place", ["receipt", "place"]);
        }
    };
    return new Promise((resolve, reject) => {
        request.onsuccess = () => {
            // A later version of this client, in another tab, wants to change it.
            request.result.onversionchange = () => request.result.close();
            resolve(request.result);
        };
        request.onerror = () => reject(request.error);
        request.onblocked = () => reject(new EdgeError("another tab holds an earlier version of this device's state: close it"));
    });
}
function result(request) {
    return new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
}
