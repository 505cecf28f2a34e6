/** A bundle as the platform signs it, and the check of its signature. */
import { BundleNotTrusted } from "./errors.js";
const LAST_MEMBER = ',"signature":"';
/**
 * The bundle of a text that was signed with one of these public keys (base64url, by id). Throws
 * BundleNotTrusted.
 */
export async function readBundle(text, keys, verify) {
    const at = text.lastIndexOf(LAST_MEMBER);
    if (at < 0 || !text.endsWith('"}'))
        throw new BundleNotTrusted("the bundle is not signed");
    let bundle;
    let isSigned;
    try {
        bundle = JSON.parse(text);
        const key = Object.hasOwn(keys, bundle.key_id) ? keys[bundle.key_id] : undefined;
        if (key === undefined)
            throw new BundleNotTrusted("the bundle is signed with a key that is not trusted here");
        const signature = rawOf(text.slice(at + LAST_MEMBER.length, -2));
        isSigned = await verify(rawOf(key), signature, new TextEncoder().encode(`${text.slice(0, at)}}`));
    }
    catch (error) {
        if (error instanceof BundleNotTrusted)
            throw error;
        throw new BundleNotTrusted(`the bundle can't be read: ${String(error)}`, { cause: error });
    }
    if (!isSigned)
        throw new BundleNotTrusted("the bundle's signature is not its own");
    return bundle;
}
/**
 * By the browser's own Ed25519. Throws BundleNotTrusted where it has none, or the page came over
 * plain HTTP.
 */
export const verifyByPlatform = async (publicKey, signature, body) => {
    // Not there in a page that came over plain HTTP, whatever the types say.
    const subtle = globalThis.crypto?.subtle;
    if (subtle === undefined) {
        throw new BundleNotTrusted("signatures can be checked in secure contexts alone: serve the page over HTTPS, or from localhost");
    }
    let key;
    try {
        key = await subtle.importKey("raw", publicKey, "Ed25519", false, ["verify"]);
    }
    catch (error) {
        if (!(error instanceof DOMException && error.name === "NotSupportedError"))
            throw error;
        throw new BundleNotTrusted("this browser has no Ed25519: give the client a `verify` of yours", { cause: error });
    }
    return subtle.verify("Ed25519", key, signature, body);
};
function rawOf(text) {
    const whole = text.replaceAll("-", "+").replaceAll("_", "/");
    return Uint8Array.from(atob(whole), (character) => character.charCodeAt(0));
}
