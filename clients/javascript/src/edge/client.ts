/**
 * An endpoint on the device: it decides and predicts here, without a network, and tells the
 * platform later.
 */

import type { Choice, Decided, Json, Prediction, Row } from "../documents.js";
import { problemOf, Unreachable } from "../errors.js";
import { checkAnyReward, checkReward } from "../reward-values.js";
import { exchanged, repeated, type Retries, type Way } from "../sending.js";
import { type Assigned, assigned } from "./assigning.js";
import { type Bundle, type BundleArm, readBundle, type Verify, verifyByPlatform } from "./bundle.js";
import { PlatformClock } from "./clock.js";
import type { Uniform } from "./choosing.js";
import { BundleNotTrusted, EdgeError, ModelFailed, NoBundle, NotRunnable } from "./errors.js";
import { Files, type Shelf } from "./files.js";
import { LinearModel, type Model, type Outputs, valuesOf } from "./models.js";
import { OnnxModel, type OnnxRuntime } from "./onnx.js";
import { Outbox, type Uploaded } from "./outbox.js";
import { OwnShelf, OwnState } from "./own-storage.js";
import { alike, type EdgeAsked, type Request, requestOf } from "./request.js";
import type { State } from "./state.js";
import { firstTrust, type Keys, type Trust, trustAfter, trustOf } from "./trust.js";

export interface EdgeOptions {
  endpoint: string;
  /** As `https://noregret.example.com`; empty: the page's own origin. */
  url: string;
  /** With the scope `edge` alone: whoever has the page has the key. */
  key?: string;
  /**
   * Runs ONNX models: `() => import("onnxruntime-web/wasm")`. Without it arms that need one are
   * excluded. Called when the first is.
   */
  runtime?: () => Promise<unknown>;
  /**
   * By id in base64url, those that trust begins with; without them it begins with those that the
   * platform tells first. Bundles that they signed tell the next. Other keys here begin anew.
   */
  publicKeys?: Keys;
  /** In place of the browser's own Ed25519. */
  verify?: Verify;
  /** Milliseconds of a call. */
  timeout?: number;
  retries?: Partial<Retries>;
  /** So many decisions wait to be told at most; past that they are made, and not learnable. */
  limit?: number;
  /** Milliseconds after which an event is sent by itself; null: when `upload` is called alone. */
  uploadAfter?: number | null;
  /** Told of each upload. */
  onUploaded?: (uploaded: Uploaded) => void;
  /** Gives numbers in [0, 1), for draws. */
  uniform?: Uniform;
  /** Where bundle, units and events are kept: IndexedDB where the browser allows it, else memory. */
  state?: State;
  /** Where model files are kept: Cache storage where the browser allows it, else memory. */
  shelf?: Shelf;
  fetch?: typeof fetch;
}

export type EdgeChoice<P = Json> = Omit<Choice<P>, "stale">;
export type EdgePrediction = Omit<Prediction, "stale">;
type EdgeDecided = Omit<Decided, "stale">;

const FETCH_TIMEOUT = 600_000;

export class EdgeClient {
  readonly #endpoint: string;
  readonly #way: Way;
  readonly #options: EdgeOptions;
  readonly #timeout: number;
  readonly #uniform: Uniform;
  readonly #state: State;
  readonly #clock: PlatformClock;
  readonly #files: Files;
  readonly #outbox: Outbox;
  readonly #sessions = new Map<string, Promise<OnnxModel>>();
  #loaded: { tag: string; bundle: Bundle } | undefined;

  constructor(options: EdgeOptions) {
    this.#options = options;
    this.#endpoint = options.endpoint;
    this.#timeout = options.timeout ?? 10_000;
    this.#uniform = options.uniform ?? Math.random;
    this.#way = {
      url: options.url.replace(/\/+$/, ""),
      headers: {
        "Content-Type": "application/json",
        Accept: "application/json",
        ...(options.key !== undefined && { Authorization: `Bearer ${options.key}` }),
      },
      // Bound: browsers refuse a fetch that is called as another object's method.
      fetch: options.fetch ?? ((input, init) => fetch(input, init)),
      retries: { tries: 3, firstPause: 50, longestPause: 2000, ...options.retries },
    };
    const name = `noregret-edge:${this.#way.url}:${options.endpoint}`;
    const limit = options.limit ?? 10_000;
    this.#state = options.state ?? new OwnState(name, limit);
    this.#clock = new PlatformClock(this.#state);
    this.#files = new Files(options.shelf ?? new OwnShelf(name), this.#way);
    this.#outbox = new Outbox(
      name,
      this.#state,
      { ...this.#way, heard: (answer) => (answer.ok ? this.#clock.note(answer.headers.get("Date")) : Promise.resolve()) },
      options.key,
      this.#timeout,
      options.uploadAfter === undefined ? 2000 : options.uploadAfter,
      () => (this.#clock.isHeard ? this.now() : null),
      options.onUploaded ?? (() => undefined),
    );
  }

  // From the platform

  /**
   * Fetches the bundle, and the files that it names and are not here; false where nothing is new.
   * While an earlier bundle is in force, one whose files can't all be had waits; after that its
   * other arms are used. Throws Problem, Unreachable, BundleNotTrusted, WrongFile.
   */
  async refresh(): Promise<boolean> {
    const known = await this.#believed();
    const path = `/api/v1/endpoints/${encodeURIComponent(this.#endpoint)}/edge`;
    const answer = await this.#get(path, known?.tag ? { "If-None-Match": known.tag } : {});
    await this.#clock.note(answer.headers.get("Date"));
    this.#outbox.start();
    if (answer.status === 304) return this.#fetchFiles((known ?? (await this.#known())).bundle);
    const trust = await this.#trust();
    const bundle = await readBundle(answer.text, trust.keys, this.#options.verify ?? verifyByPlatform);
    if (bundle.endpoint !== this.#endpoint) throw new BundleNotTrusted(`the bundle is of ${bundle.endpoint}`);
    let failure: unknown = null;
    try {
      await this.#fetchFiles(bundle);
    } catch (error) {
      if (known !== null && this.now() < Date.parse(known.bundle.expires_at)) throw error;
      failure = error;
    }
    const next = JSON.stringify(trustAfter(trust, bundle, this.now()));
    await this.#state.put({ bundle: answer.text, tag: answer.headers.get("ETag") ?? "", trust: next });
    const named = new Set(bundle.arms.flatMap((arm) => (arm.artifact === null ? [] : [arm.artifact.sha256])));
    await this.#files.keepOnly(named);
    for (const sha256 of this.#sessions.keys()) if (!named.has(sha256)) this.#sessions.delete(sha256);
    if (failure !== null) throw failure;
    return true;
  }

  async #fetchFiles(bundle: Bundle): Promise<boolean> {
    let [fetched, failure]: [boolean, unknown] = [false, null];
    for (const { artifact } of bundle.arms.filter((arm) => this.#needsFile(arm))) {
      try {
        fetched = (await this.#files.fetch(artifact!, FETCH_TIMEOUT)) || fetched;
      } catch (error) {
        if (error instanceof Unreachable) throw error;
        failure ??= error; // of this file: the others are fetched
      }
    }
    if (failure !== null) throw failure;
    return fetched;
  }

  /** Kept with the first bundle that it believes. */
  async #trust(): Promise<Trust> {
    const [text, first] = await this.#state.get("trust", "keys");
    const kept = trustOf(text, this.#options.publicKeys);
    if (kept !== null) return kept;
    if (first != null) return { keys: JSON.parse(first) as Keys, from: null, since: "" }; // of an earlier version
    return firstTrust((await this.#get("/api/v1/edge/key", {})).text);
  }

  #get(path: string, headers: Record<string, string>): Promise<{ status: number; headers: Headers; text: string }> {
    const { "Content-Type": _, ...own } = this.#way.headers;
    const init: RequestInit = { headers: { ...own, ...headers }, cache: "no-store" };
    return repeated(this.#way, { repeatable: true }, this.#timeout, (left) =>
      exchanged(this.#way, path, init, left, undefined, async (answer) => {
        const text = await answer.text();
        if (!answer.ok && answer.status !== 304) {
          throw problemOf(answer.status, answer.statusText, text, answer.headers.get("Retry-After"));
        }
        return { status: answer.status, headers: answer.headers, text };
      }),
    );
  }

  // On the device

  /** Unix time in milliseconds by the platform's clock, as it was when it was last asked. */
  now(): number {
    return this.#clock.now();
  }

  /** What is known, or null where there is none, or none that can be believed. */
  async #believed(): Promise<{ tag: string; bundle: Bundle } | null> {
    try {
      return await this.#known();
    } catch (error) {
      if (error instanceof EdgeError) return null;
      throw error;
    }
  }

  async #known(): Promise<{ tag: string; bundle: Bundle }> {
    const [tag, ahead] = await this.#state.get("tag", "ahead"); // another tab may have refreshed
    this.#clock.take(ahead);
    if (this.#loaded !== undefined && this.#loaded.tag === tag) return this.#loaded;
    const [text, its] = await this.#state.get("bundle", "tag");
    if (text == null) throw new NoBundle(`there is no bundle of ${this.#endpoint} here: refresh first`);
    const bundle = await readBundle(text, (await this.#trust()).keys, this.#options.verify ?? verifyByPlatform);
    return (this.#loaded = { tag: its ?? "", bundle });
  }

  /** The bundle that is in force. Throws NoBundle. */
  async bundle(): Promise<Bundle> {
    const { bundle } = await this.#known();
    if (this.now() >= Date.parse(bundle.expires_at)) {
      throw new NoBundle(`the bundle of ${this.#endpoint} was good until ${bundle.expires_at}: refresh`);
    }
    return bundle;
  }

  /**
   * An arm and its payload. Throws NoBundle, NotRunnable where no arm is left, ContextInvalid, and
   * TypeError for a field that the platform would not take.
   */
  async decide<P = Json>(asked: EdgeAsked = {}): Promise<EdgeChoice<P>> {
    const request = requestOf(asked);
    const bundle = await this.bundle();
    const excluded = positions(bundle, (arm) => arm.name !== null && request.exclude.includes(arm.name));
    const found = await this.#assigned(bundle, request, excluded);
    if (found === null) throw new NotRunnable("every arm is excluded");
    return { ...(await this.#recorded(bundle, found, request, excluded, null)), payload: bundle.arms[found.route.position]!.payload as P };
  }

  /**
   * An arm's answer for these rows, as the platform's predict takes them. Arms that this device
   * can't run are excluded; where the arm's model fails the control answers, and the decision
   * teaches nothing. Throws NoBundle, NotRunnable, ContextInvalid, and TypeError for rows that are
   * none of the models' and for a field that the platform would not take.
   */
  async predict(rows: readonly Row[], asked: EdgeAsked = {}): Promise<EdgePrediction> {
    const request = requestOf(asked);
    const bundle = await this.bundle();
    const values = valuesOf(bundle, rows);
    const here = await Promise.all(bundle.arms.map((arm) => this.#isHere(arm)));
    const excluded = positions(bundle, (arm, i) => !here[i] || (arm.name !== null && request.exclude.includes(arm.name)));
    let [found, model]: [Assigned | null, Model | null] = [null, null];
    while (model === null) {
      found = await this.#assigned(bundle, request, excluded);
      if (found === null) throw new NotRunnable(`no arm of ${this.#endpoint} that is not excluded can be run here`);
      const { position } = found.route;
      try {
        model = await this.#model(bundle.arms[position]!);
      } catch (error) {
        if (!(error instanceof ModelFailed)) throw error;
        excluded.add(position); // of this device: no fault of the arm that others would hear of
        here[position] = false;
      }
    }
    let arm = bundle.arms[found!.route.position]!;
    let [outputs, fallbackReason]: [Outputs | null, "error" | null] = [null, null];
    try {
      outputs = await model.predict(values);
    } catch (error) {
      if (!(error instanceof ModelFailed)) throw error;
      const control = bundle.arms.find((one, i) => one.control && one !== arm && here[i]);
      if (control === undefined) throw new NotRunnable(error.message, { cause: error });
      [arm, fallbackReason] = [control, "error"];
      outputs = await (await this.#model(control)).predict(values);
    }
    const decided = await this.#recorded(bundle, found!, request, excluded, fallbackReason);
    return { ...decided, model: arm.model, outputs: outputs as EdgePrediction["outputs"] };
  }

  #needsFile(arm: BundleArm): boolean {
    return arm.parameters === null && arm.artifact?.format === "onnx" && this.#options.runtime !== undefined;
  }

  async #isHere(arm: BundleArm): Promise<boolean> {
    if (arm.parameters !== null) return true;
    return this.#needsFile(arm) && (this.#sessions.has(arm.artifact!.sha256) || (await this.#files.has(arm.artifact!)));
  }

  async #model(arm: BundleArm): Promise<Model> {
    if (arm.parameters !== null) return new LinearModel(arm.parameters, arm.outputs);
    const { sha256 } = arm.artifact!;
    let session = this.#sessions.get(sha256);
    if (session === undefined) {
      session = this.#opened(arm);
      this.#sessions.set(sha256, session);
      session.catch(() => this.#sessions.delete(sha256));
    }
    return session;
  }

  async #opened(arm: BundleArm): Promise<OnnxModel> {
    const file = await this.#files.read(arm.artifact!);
    if (file === null) throw new ModelFailed(`the file of ${arm.model} is not here any more: refresh`);
    let runtime: OnnxRuntime;
    try {
      runtime = (await this.#options.runtime!()) as OnnxRuntime;
    } catch (error) {
      throw new ModelFailed(`the runtime can't be loaded: ${String(error)}`, { cause: error });
    }
    return OnnxModel.load(runtime, file, arm.outputs);
  }

  #assigned(bundle: Bundle, { unit, context }: Request, excluded: ReadonlySet<number>): Promise<Assigned | null> {
    return assigned(bundle, this.#state, unit, context, excluded, this.#uniform);
  }

  /** Keeps the decision, to be told; what is answered of it. */
  async #recorded(
    bundle: Bundle,
    { route, kept }: Assigned,
    { unit, context, requestId }: Request,
    excluded: ReadonlySet<number>,
    fallbackReason: "error" | null,
  ): Promise<EdgeDecided> {
    const [arm, id, now] = [bundle.arms[route.position]!, crypto.randomUUID(), this.now()];
    const isOfThis = kept === null || (kept.receipt === bundle.receipt && (bundle.choice === "draw" || alike(kept.context, context)));
    const event = {
      type: "decision",
      id,
      arm: arm.name,
      propensity: route.propensities[route.position]!,
      decided_at: new Date(now).toISOString(),
      unit,
      context,
      request_id: requestId,
      holdout: route.holdout,
      excluded: bundle.arms.flatMap(({ name }, i) => (excluded.has(i) && name !== null ? [name] : [])),
      fallback_reason: fallbackReason,
      kept: isOfThis ? null : { receipt: kept.receipt, context: kept.context },
    };
    const decision = { id, receipt: bundle.receipt, decidedAt: now, event: JSON.stringify(event), reward: bundle.reward };
    const isKept = this.#uniform() < bundle.record && (await this.#outbox.addDecision(decision));
    return {
      decision_id: id,
      endpoint: bundle.endpoint,
      experiment: bundle.experiment,
      arm: arm.name,
      model: arm.model,
      strategy: bundle.strategy,
      propensity: event.propensity,
      policy_version: bundle.version,
      learnable: isKept && fallbackReason === null,
      fallback_reason: fallbackReason,
    };
  }

  // To the platform

  /**
   * Keeps how a decision of this device went, to be told; false where the decision is not known
   * here, or this metric of it waits already. Throws TypeError for a value or a metric that the
   * platform would not take.
   */
  async feedback(decisionId: string, value: number | boolean, metric: string | null = null): Promise<boolean> {
    if (typeof decisionId !== "string") throw new TypeError("decisionId: a text was expected");
    checkAnyReward(value, metric);
    await this.#clock.read();
    const occurred_at = new Date(this.now()).toISOString();
    const event = JSON.stringify({ type: "reward", decision_id: decisionId, value, metric, occurred_at });
    return this.#outbox.addReward(decisionId, metric ?? "", event, (rules) => {
      if (rules !== null) checkReward(value, metric, rules);
    });
  }

  /**
   * Does this device remember when the page is closed? False where the browser refuses its storage:
   * then bundle, units' arms and events are in memory, for this visit alone.
   */
  isKept(): Promise<boolean> {
    return this.#state instanceof OwnState ? this.#state.isKept() : Promise.resolve(true);
  }

  /** Events that are still to be told. */
  waiting(): Promise<number> {
    return this.#state.waiting();
  }

  /**
   * Tells what waits, in batches. What was told is forgotten here once the platform has committed
   * it. Throws Problem, Unreachable.
   */
  upload(): Promise<Uploaded> {
    return this.#outbox.upload();
  }

  /** Sends nothing by itself any more. What waits is kept. */
  close(): void {
    this.#outbox.close();
  }
}

function positions(bundle: Bundle, test: (arm: BundleArm, i: number) => boolean): Set<number> {
  return new Set(bundle.arms.flatMap((arm, i) => (test(arm, i) ? [i] : [])));
}
