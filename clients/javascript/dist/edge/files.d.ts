/**
 * Model files onto the device: each once, by its hash, gone on with where it broke off, and checked
 * before it stands under its name.
 */
import { type Way } from "../sending.js";
import type { Artifact } from "./bundle.js";
/** Where files and their parts are kept, by name. */
export interface Shelf {
    get(name: string): Promise<Uint8Array | null>;
    put(name: string, body: Uint8Array): Promise<void>;
    names(): Promise<string[]>;
    delete(name: string): Promise<void>;
}
/** For as long as the process lives. */
export declare class MemoryShelf implements Shelf {
    #private;
    get(name: string): Promise<Uint8Array | null>;
    put(name: string, body: Uint8Array): Promise<void>;
    names(): Promise<string[]>;
    delete(name: string): Promise<void>;
}
/** In the origin's Cache storage, where its pages and workers find them. */
export declare class CacheShelf implements Shelf {
    private readonly cacheName;
    constructor(cacheName: string);
    get(name: string): Promise<Uint8Array | null>;
    put(name: string, body: Uint8Array): Promise<void>;
    names(): Promise<string[]>;
    delete(name: string): Promise<void>;
}
/** Model files on a shelf, by their SHA-256. */
export declare class Files {
    #private;
    private readonly shelf;
    private readonly way;
    constructor(shelf: Shelf, way: Way);
    has(artifact: Artifact): Promise<boolean>;
    /** Null where it is not there, or damaged: then it is removed. */
    read(artifact: Artifact): Promise<Uint8Array | null>;
    /** Fetches it unless it is there and whole; false where it was. Throws Problem, Unreachable, WrongFile. */
    fetch(artifact: Artifact, timeout: number): Promise<boolean>;
    /** Removes the files of all others, and their parts. */
    keepOnly(sha256s: ReadonlySet<string>): Promise<void>;
}
