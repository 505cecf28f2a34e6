/**
 * The platform's time on a device whose clock may be wrong: bundles and events have times. How far
 * off it is outlives the page, and is known before anything is judged by time.
 */
/** A difference of so many milliseconds is none: dates are told by the second, and come late. */
const SKEW = 5000;
const STEP = 2000;
export class PlatformClock {
    state;
    #ahead = 0;
    #isHeard = false;
    constructor(state) {
        this.state = state;
    }
    /** Unix time in milliseconds by the platform's clock, as it was when it was last heard of. */
    now() {
        return Date.now() + this.#ahead;
    }
    /** Has this page heard of it? What was noted earlier is of a clock that was set since, maybe. */
    get isHeard() {
        return this.#isHeard;
    }
    /** As this page or another has noted it. */
    async read() {
        const [ahead] = await this.state.get("ahead");
        this.take(ahead);
    }
    /** What the state has as `ahead`. */
    take(ahead) {
        this.#ahead = Number(ahead ?? 0) || 0;
    }
    /** By the `Date` of an answer that was made just now. */
    async note(date) {
        await this.read();
        this.#isHeard = true;
        const theirs = Date.parse(date ?? "");
        if (Number.isNaN(theirs))
            return;
        const difference = theirs - Date.now();
        const ahead = Math.abs(difference) > SKEW ? difference : 0;
        if (Math.abs(ahead - this.#ahead) < STEP)
            return;
        this.#ahead = ahead;
        await this.state.put({ ahead: String(ahead) });
    }
}
