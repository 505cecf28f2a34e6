/**
 * Where a client keeps its own: in the browser's storage, and where the browser refuses that (by a
 * setting, in a private window, in a frame, when it is full) in memory, for as long as the page is
 * open.
 */

import { EdgeError } from "./errors.js";
import { CacheShelf, MemoryShelf, type Shelf } from "./files.js";
import { IndexedState } from "./indexed-state.js";
import { MemoryState } from "./memory-state.js";
import type { Batch, EventKey, KeptArm, KeptDecision, RewardCheck, State } from "./state.js";

/** A device's state, in IndexedDB where there is one. */
export class OwnState implements State {
  readonly #chosen: Promise<{ state: State; isKept: boolean }>;
  /** What it refused to put away. */
  readonly #refused = new Map<string, string>();

  constructor(name: string, limit: number) {
    this.#chosen = chosen(name, limit);
  }

  /** Does it outlive the page? */
  async isKept(): Promise<boolean> {
    return (await this.#chosen).isKept && this.#refused.size === 0;
  }

  async #state(): Promise<State> {
    return (await this.#chosen).state;
  }

  async get(...names: string[]): Promise<(string | null)[]> {
    const values = await (await this.#state()).get(...names);
    return values.map((value, i) => this.#refused.get(names[i]!) ?? value);
  }

  async put(values: Readonly<Record<string, string>>): Promise<void> {
    const isPut = (await this.#state()).put(values).then(() => true);
    const isKept = await unlessRefused(isPut, () => false);
    for (const [name, value] of Object.entries(values)) {
      if (isKept) this.#refused.delete(name);
      else this.#refused.set(name, value);
    }
  }

  /** Full: the unit's first arm follows from its hash, and so it gets the same one next time. */
  async arm(experiment: number, unit: string, isGood: (kept: KeptArm) => boolean, draw: () => KeptArm): Promise<KeptArm> {
    return unlessRefused((await this.#state()).arm(experiment, unit, isGood, draw), draw);
  }

  async addDecision(decision: KeptDecision): Promise<boolean> {
    return unlessRefused((await this.#state()).addDecision(decision), () => false);
  }

  async addReward(decision: string, metric: string, event: string, check?: RewardCheck): Promise<boolean> {
    return unlessRefused((await this.#state()).addReward(decision, metric, event, check), () => false);
  }

  async batch(most: number, without?: ReadonlySet<string>): Promise<Batch | null> {
    return (await this.#state()).batch(most, without);
  }

  async told(keys: readonly EventKey[]): Promise<void> {
    return (await this.#state()).told(keys);
  }

  async forget(now: number): Promise<void> {
    return (await this.#state()).forget(now);
  }

  async waiting(): Promise<number> {
    return (await this.#state()).waiting();
  }
}

async function chosen(name: string, limit: number): Promise<{ state: State; isKept: boolean }> {
  try {
    const state = new IndexedState(name, limit);
    await state.get("tag");
    return { state, isKept: true };
  } catch (error) {
    if (error instanceof EdgeError) return { state: new IndexedState(name, limit), isKept: true }; // which says so at each call
    return { state: new MemoryState(limit), isKept: false };
  }
}

/** Model files, in Cache storage where there is one. What it does not take is in memory. */
export class OwnShelf implements Shelf {
  readonly #memory = new MemoryShelf();
  readonly #cache: CacheShelf;

  constructor(name: string) {
    this.#cache = new CacheShelf(name);
  }

  async get(name: string): Promise<Uint8Array | null> {
    return (await this.#memory.get(name)) ?? (await unlessRefused(this.#cache.get(name), () => null));
  }

  async put(name: string, body: Uint8Array): Promise<void> {
    await unlessRefused(this.#cache.put(name, body), () => this.#memory.put(name, body));
  }

  async names(): Promise<string[]> {
    return [...(await this.#memory.names()), ...(await unlessRefused(this.#cache.names(), () => []))];
  }

  async delete(name: string): Promise<void> {
    await this.#memory.delete(name);
    await unlessRefused(this.#cache.delete(name), () => undefined);
  }
}

async function unlessRefused<T>(work: Promise<T>, otherwise: () => T | Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return otherwise();
  }
}

/** Where there is no storage at all, as in Node, its name means nothing. */
function isRefusal(error: unknown): boolean {
  return error instanceof ReferenceError || error instanceof DOMException;
}
