/** An origin's tabs and workers share what a device keeps. */

/** Does it while no other tab does work of this name; in Node there are none. */
export function alone<T>(name: string, work: () => Promise<T>): Promise<T> {
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  return locks === undefined ? work() : (locks.request(name, work) as Promise<T>);
}
