/**
 * A device's state for as long as its process lives: in Node, and where a browser has no IndexedDB.
 */
import { type Batch, type EventKey, type KeptArm, type KeptDecision, type RewardCheck, type State } from "./state.js";
export declare class MemoryState implements State {
    #private;
    private readonly limit;
    constructor(limit: number);
    get(...names: string[]): Promise<(string | null)[]>;
    put(values: Readonly<Record<string, string>>): Promise<void>;
    arm(experiment: number, unit: string, isGood: (kept: KeptArm) => boolean, draw: () => KeptArm): Promise<KeptArm>;
    addDecision(decision: KeptDecision): Promise<boolean>;
    addReward(decision: string, metric: string, event: string, check?: RewardCheck): Promise<boolean>;
    batch(most: number, without?: ReadonlySet<string>): Promise<Batch | null>;
    told(keys: readonly EventKey[]): Promise<void>;
    forget(now: number): Promise<void>;
    waiting(): Promise<number>;
}
