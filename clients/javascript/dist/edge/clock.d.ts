/**
 * The platform's time on a device whose clock may be wrong: bundles and events have times. How far
 * off it is outlives the page, and is known before anything is judged by time.
 */
import type { State } from "./state.js";
export declare class PlatformClock {
    #private;
    private readonly state;
    constructor(state: Pick<State, "get" | "put">);
    /** Unix time in milliseconds by the platform's clock, as it was when it was last heard of. */
    now(): number;
    /** Has this page heard of it? What was noted earlier is of a clock that was set since, maybe. */
    get isHeard(): boolean;
    /** As this page or another has noted it. */
    read(): Promise<void>;
    /** What the state has as `ahead`. */
    take(ahead: string | null | undefined): void;
    /** By the `Date` of an answer that was made just now. */
    note(date: string | null): Promise<void>;
}
