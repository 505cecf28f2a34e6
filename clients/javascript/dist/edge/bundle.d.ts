/** A bundle as the platform signs it, and the check of its signature. */
import type { Json } from "../documents.js";
import type { Context } from "../event-fields.js";
import type { Reward } from "../reward-values.js";
export type { Context, Reward };
export type ContextField = {
    name: string;
    type: "number";
    min: number;
    max: number;
} | {
    name: string;
    type: "category";
    values: string[];
};
/** A model file. */
export interface Artifact {
    sha256: string;
    bytes: number;
    url: string;
    format: string;
}
/** sum[k] = intercepts[k] + sum over j of weights[k][j] * (row[j] - centers[j]) */
export interface LinearForm {
    centers: number[];
    weights: number[][];
    intercepts: number[];
    link: string;
    classes: (number | string)[] | null;
}
/** An arm; `propensity` is null where it depends on the context. */
export interface BundleArm {
    name: string | null;
    model: string;
    control: boolean;
    enabled: boolean;
    propensity: number | null;
    payload: Json;
    outputs: string[];
    artifact: Artifact | null;
    parameters: LinearForm | null;
}
/** All that a device decides by. Members that a later platform adds are ignored. */
export interface Bundle {
    endpoint: string;
    version: number;
    issued_at: string;
    expires_at: string;
    experiment: string | null;
    experiment_id: number;
    strategy: string;
    choice: "single" | "hash" | "draw" | "context";
    sticky: boolean;
    holdout: number;
    record: number;
    arms: BundleArm[];
    columns: {
        name: string;
        type: string;
        nullable: boolean;
    }[] | null;
    features: number | null;
    feature_names: string[] | null;
    context: ContextField[];
    policy: {
        name: string;
        params: Record<string, unknown>;
        floor: number;
        burn_in: number;
    } | null;
    /** By arm position. */
    belief: {
        mean: number[][];
        covariance: number[][][];
        counts: number[];
    } | null;
    reward: Reward | null;
    receipt: string;
    /** The platform's public keys, the one that signs first. Not there in bundles of earlier versions. */
    keys?: PublicKey[];
    key_id: string;
}
/** `public_key` in base64url. */
export interface PublicKey {
    id: string;
    algorithm: string;
    public_key: string;
}
/** Is this the signature of these bytes by the Ed25519 key of these 32 bytes? */
export type Verify = (publicKey: Uint8Array, signature: Uint8Array, body: Uint8Array) => Promise<boolean>;
/**
 * The bundle of a text that was signed with one of these public keys (base64url, by id). Throws
 * BundleNotTrusted.
 */
export declare function readBundle(text: string, keys: Readonly<Record<string, string>>, verify: Verify): Promise<Bundle>;
/**
 * By the browser's own Ed25519. Throws BundleNotTrusted where it has none, or the page came over
 * plain HTTP.
 */
export declare const verifyByPlatform: Verify;
