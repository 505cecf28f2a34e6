// A platform that signs bundles and takes events, within this process.
const { subtle } = globalThis.crypto;
const base64url = (bytes) => Buffer.from(bytes).toString("base64url");
const DAY = 86_400_000;

/** An Ed25519 key: how the platform tells it, and `sign`. */
export async function signingKey(id) {
  const { publicKey, privateKey } = await subtle.generateKey("Ed25519", true, ["sign", "verify"]);
  const public_key = base64url(await subtle.exportKey("raw", publicKey));
  const sign = async (text) => base64url(await subtle.sign("Ed25519", privateKey, new TextEncoder().encode(text)));
  return { told: { id, algorithm: "Ed25519", public_key }, sign };
}

/**
 * `keys`, of which the first signs; `members` are put into the bundle. `now` is the platform's own
 * clock, whatever the device's says. Its answers may be changed by `answer`.
 */
export class Platform {
  events = [];
  members = {};
  version = 1;
  answer = (response) => response;

  constructor(keys) {
    this.keys = keys;
    const { now } = Date;
    this.now = () => now.call(Date);
    this.fetch = (address, init) => this.#answered(new URL(address).pathname, init ?? {});
  }

  async bundle() {
    const issued = this.now();
    const bundle = {
      endpoint: "e",
      version: this.version,
      issued_at: new Date(issued).toISOString(),
      expires_at: new Date(issued + DAY).toISOString(),
      experiment: "e-1",
      experiment_id: 1,
      strategy: "bandit",
      choice: "draw",
      sticky: false,
      holdout: 0,
      record: 1,
      arms: [{ name: "a", model: "m@1", control: true, enabled: true, propensity: 1, payload: 7, outputs: [], artifact: null, parameters: null }],
      columns: null,
      features: null,
      feature_names: null,
      context: [],
      policy: null,
      belief: null,
      reward: { metric: "reward", kind: "binary", minimum: null, maximum: null, window_seconds: DAY / 1000 },
      receipt: `receipt-${this.version}`,
      keys: this.keys.map(({ told }) => told),
      ...this.members,
      key_id: this.keys[0].told.id,
    };
    const text = JSON.stringify(bundle);
    return `${text.slice(0, -1)},"signature":"${await this.keys[0].sign(text)}"}`;
  }

  async #answered(path, { method = "GET", headers = {}, body }) {
    const tag = `"${this.version}"`;
    const told = { Date: new Date(this.now()).toUTCString(), ETag: tag };
    let response;
    if (path === "/api/v1/edge/key") {
      response = Response.json({ keys: this.keys.map((key) => key.told) }, { headers: told });
    } else if (method === "POST") {
      const { events } = JSON.parse(body);
      this.events.push(...events);
      response = Response.json({ results: events.map(() => ({ status: "recorded" })) }, { status: 207, headers: told });
    } else if (headers["If-None-Match"] === tag) {
      response = new Response(null, { status: 304, headers: told });
    } else {
      response = new Response(await this.bundle(), { headers: told });
    }
    return this.answer(response, path);
  }
}
