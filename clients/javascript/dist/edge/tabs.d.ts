/** An origin's tabs and workers share what a device keeps. */
/** Does it while no other tab does work of this name; in Node there are none. */
export declare function alone<T>(name: string, work: () => Promise<T>): Promise<T>;
