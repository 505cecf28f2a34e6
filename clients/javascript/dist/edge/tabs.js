/** An origin's tabs and workers share what a device keeps. */
/** Does it while no other tab does work of this name; in Node there are none. */
export function alone(name, work) {
    const locks = globalThis.navigator?.locks;
    return locks === undefined ? work() : locks.request(name, work);
}
