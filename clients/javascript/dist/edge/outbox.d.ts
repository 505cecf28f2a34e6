/**
 * The events of a device: kept until the platform has committed them, sent when there is a network.
 * What is sent twice it takes once. A page that is hidden, which may be its end, sends what it
 * knows by `sendBeacon`; no answer comes, so that is sent again later.
 */
import { type Way } from "../sending.js";
import type { KeptDecision, RewardCheck, State } from "./state.js";
/** How many events were told, by what became of them, and how many still wait. */
export interface Uploaded {
    told: Record<string, number>;
    waiting: number;
}
export declare class Outbox {
    #private;
    private readonly name;
    private readonly state;
    private readonly way;
    private readonly key;
    private readonly timeout;
    private readonly after;
    private readonly now;
    private readonly onUploaded;
    /**
     * `after`: milliseconds after an event, null for when `upload` is called alone. `now`: the time
     * by which decisions are forgotten that were told; null where it is not known well enough.
     */
    constructor(name: string, state: State, way: Way, key: string | undefined, timeout: number, after: number | null, now: () => number | null, onUploaded: (uploaded: Uploaded) => void);
    /** False where as many wait as may. */
    addDecision(decision: KeptDecision): Promise<boolean>;
    /** False where the decision is not known here, or this metric of it waits already. */
    addReward(decision: string, metric: string, event: string, check?: RewardCheck): Promise<boolean>;
    /** Tells what waits, in batches. Throws Problem, Unreachable. */
    upload(): Promise<Uploaded>;
    /** Sends no more by itself. */
    close(): void;
    /** Begins to send what earlier pages left, and what could not be sent. What was refused waits its time. */
    start(): void;
}
