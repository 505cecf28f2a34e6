/**
 * Where a client keeps its own: in the browser's storage, and where the browser refuses that (by a
 * setting, in a private window, in a frame, when it is full) in memory, for as long as the page is
 * open.
 */
import { type Shelf } from "./files.js";
import type { Batch, EventKey, KeptArm, KeptDecision, RewardCheck, State } from "./state.js";
/** A device's state, in IndexedDB where there is one. */
export declare class OwnState implements State {
    #private;
    constructor(name: string, limit: number);
    /** Does it outlive the page? */
    isKept(): Promise<boolean>;
    get(...names: string[]): Promise<(string | null)[]>;
    put(values: Readonly<Record<string, string>>): Promise<void>;
    /** Full: the unit's first arm follows from its hash, and so it gets the same one next time. */
    arm(experiment: number, unit: string, isGood: (kept: KeptArm) => boolean, draw: () => KeptArm): Promise<KeptArm>;
    addDecision(decision: KeptDecision): Promise<boolean>;
    addReward(decision: string, metric: string, event: string, check?: RewardCheck): Promise<boolean>;
    batch(most: number, without?: ReadonlySet<string>): Promise<Batch | null>;
    told(keys: readonly EventKey[]): Promise<void>;
    forget(now: number): Promise<void>;
    waiting(): Promise<number>;
}
/** Model files, in Cache storage where there is one. What it does not take is in memory. */
export declare class OwnShelf implements Shelf {
    #private;
    constructor(name: string);
    get(name: string): Promise<Uint8Array | null>;
    put(name: string, body: Uint8Array): Promise<void>;
    names(): Promise<string[]>;
    delete(name: string): Promise<void>;
}
