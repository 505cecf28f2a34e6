/**
 * BLAKE2b (RFC 7693) with a key and a salt, which browsers don't have: units fall to arms by it.
 * Words of 64 bits are two of 32, low half first.
 */
const BLOCK = 128;
const ROUNDS = 12;
// The first 64 bits of the fractions of the square roots of the first eight primes, as in SHA-512.
const INITIAL = Uint32Array.of(0xf3bcc908, 0x6a09e667, 0x84caa73b, 0xbb67ae85, 0xfe94f82b, 0x3c6ef372, 0x5f1d36f1, 0xa54ff53a, 0xade682d1, 0x510e527f, 0x2b3e6c1f, 0x9b05688c, 0xfb41bd6b, 0x1f83d9ab, 0x137e2179, 0x5be0cd19);
/** In which order a round mixes the message's words; rounds 10 and 11 are 0 and 1 again. */
const ORDERS = [
    "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
    "14 10 4 8 9 15 13 6 1 12 0 2 11 7 5 3",
    "11 8 12 0 5 2 15 13 10 14 3 6 7 1 9 4",
    "7 9 3 1 13 12 11 14 2 6 5 10 4 0 15 8",
    "9 0 5 7 2 4 10 15 14 1 11 12 6 8 3 13",
    "2 12 6 10 0 11 8 3 4 13 7 5 15 14 1 9",
    "12 5 1 15 14 13 4 10 0 7 6 3 9 2 8 11",
    "13 11 7 14 12 1 3 9 5 0 15 4 8 6 2 10",
    "6 15 14 9 11 3 0 8 12 2 13 7 1 4 10 5",
    "10 2 8 4 7 6 1 5 15 11 9 14 3 12 13 0",
].map((order) => Uint8Array.from(order.split(" "), Number));
/** Which four words a step mixes: columns first, then diagonals. */
const QUARTERS = [
    [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
    [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14],
].map((quarter) => Uint8Array.from(quarter));
const words = new Uint32Array(32);
const message = new Uint32Array(32);
/** 64 bytes. `key` has at most 64 bytes, `salt` none or 16. */
export function blake2b(body, key = new Uint8Array(0), salt = new Uint8Array(16)) {
    const state = INITIAL.slice();
    state[0] ^= 0x01010000 ^ (key.length << 8) ^ 64; // one node, of 64 bytes
    const salted = new DataView(salt.buffer, salt.byteOffset, salt.length);
    for (let i = 0; i < 4; i++)
        state[8 + i] ^= salted.getUint32(4 * i, true);
    const padded = key.length > 0 ? BLOCK : 0;
    const input = new Uint8Array(Math.max(Math.ceil((padded + body.length) / BLOCK), 1) * BLOCK);
    input.set(key);
    input.set(body, padded);
    const view = new DataView(input.buffer);
    for (let from = 0; from < input.length; from += BLOCK) {
        const isLast = from + BLOCK === input.length;
        for (let i = 0; i < 32; i++)
            message[i] = view.getUint32(from + 4 * i, true);
        compress(state, isLast ? padded + body.length : from + BLOCK, isLast);
    }
    const digest = new DataView(new ArrayBuffer(64));
    state.forEach((half, i) => digest.setUint32(4 * i, half, true));
    return new Uint8Array(digest.buffer);
}
function compress(state, count, isLast) {
    words.set(state);
    words.set(INITIAL, 16);
    words[24] ^= count; // its low half: nobody hashes 2^32 bytes here
    if (isLast) {
        words[28] = ~words[28];
        words[29] = ~words[29];
    }
    for (let round = 0; round < ROUNDS; round++) {
        const order = ORDERS[round % 10];
        for (let i = 0; i < 8; i++)
            mix(QUARTERS[i], order[2 * i], order[2 * i + 1]);
    }
    for (let i = 0; i < 16; i++)
        state[i] ^= words[i] ^ words[16 + i];
}
function mix(quarter, first, second) {
    const [a, b, c, d] = [2 * quarter[0], 2 * quarter[1], 2 * quarter[2], 2 * quarter[3]];
    add(a, words, b);
    add(a, message, 2 * first);
    turnRight(d, a, 32);
    add(c, words, d);
    turnRight(b, c, 24);
    add(a, words, b);
    add(a, message, 2 * second);
    turnRight(d, a, 16);
    add(c, words, d);
    turnRight(b, c, 63);
}
function add(to, from, at) {
    const low = words[to] + from[at];
    words[to + 1] += from[at + 1] + (low > 0xffffffff ? 1 : 0);
    words[to] = low;
}
/** The exclusive or with another word, turned by some bits. */
function turnRight(to, other, bits) {
    const low = words[to] ^ words[other];
    const high = words[to + 1] ^ words[other + 1];
    if (bits === 32) {
        words[to] = high;
        words[to + 1] = low;
    }
    else if (bits === 63) {
        words[to] = (low << 1) | (high >>> 31);
        words[to + 1] = (high << 1) | (low >>> 31);
    }
    else {
        words[to] = (low >>> bits) | (high << (32 - bits));
        words[to + 1] = (high >>> bits) | (low << (32 - bits));
    }
}
