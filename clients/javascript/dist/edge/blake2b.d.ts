/**
 * BLAKE2b (RFC 7693) with a key and a salt, which browsers don't have: units fall to arms by it.
 * Words of 64 bits are two of 32, low half first.
 */
/** 64 bytes. `key` has at most 64 bytes, `salt` none or 16. */
export declare function blake2b(body: Uint8Array, key?: Uint8Array, salt?: Uint8Array): Uint8Array;
