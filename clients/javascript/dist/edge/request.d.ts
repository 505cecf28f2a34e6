/** What a decision is asked for on a device, checked as the platform would check it. */
import type { Asked } from "../documents.js";
import { type Context } from "../event-fields.js";
/** What a decision on the device takes. */
export type EdgeAsked = Omit<Asked, "activate">;
/** What was asked, as it is checked and as the event says it. */
export interface Request {
    unit: string | null;
    context: Context | null;
    requestId: string | null;
    exclude: readonly string[];
}
/** Throws TypeError for what the platform would not take. */
export declare function requestOf(asked: EdgeAsked): Request;
/** The same members, in whichever order. */
export declare function alike(left: Context | null, right: Context | null): boolean;
