/**
 * A device's state in the origin's IndexedDB: its tabs and workers share it, and it outlives them.
 */
import { type Batch, type EventKey, type KeptArm, type KeptDecision, type RewardCheck, type State } from "./state.js";
export declare class IndexedState implements State {
    #private;
    private readonly name;
    private readonly limit;
    constructor(name: string, limit: number);
    close(): Promise<void>;
    get(...names: string[]): Promise<(string | null)[]>;
    put(values: Readonly<Record<string, string>>): Promise<void>;
    arm(experiment: number, unit: string, isGood: (kept: KeptArm) => boolean, draw: () => KeptArm): Promise<KeptArm>;
    addDecision({ id, receipt, decidedAt, event, reward }: KeptDecision): Promise<boolean>;
    addReward(decision: string, metric: string, event: string, check?: RewardCheck): Promise<boolean>;
    batch(most: number, without?: ReadonlySet<string>): Promise<Batch | null>;
    told(keys: readonly EventKey[]): Promise<void>;
    forget(now: number): Promise<void>;
    waiting(): Promise<number>;
}
