/**
 * What a device remembers: the bundle, its units' arms, and the events that are still to be told.
 */
/** Of a decision whose bundle says nothing of rewards. */
const OTHER_WINDOW = 86_400_000;
/** Milliseconds from a decision in which it may be rewarded, by what its own bundle says. */
export function windowOf(reward) {
    return reward == null ? OTHER_WINDOW : reward.window_seconds * 1000;
}
/** Of a request's events: a receipt may be larger, and the platform takes a mebibyte. */
const BATCH_BYTES = 384 * 1024;
const encoder = new TextEncoder();
/** The first events that one body carries; at least one. */
export function batchOf(receipt, waiting) {
    let [bytes, count] = [0, 0];
    for (const { event } of waiting) {
        bytes += encoder.encode(event).length;
        if (bytes > BATCH_BYTES && count > 0)
            break;
        count++;
    }
    const fitting = waiting.slice(0, count);
    return { receipt, keys: fitting.map((one) => one.key), events: fitting.map((one) => one.event) };
}
