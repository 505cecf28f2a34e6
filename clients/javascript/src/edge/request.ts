/** What a decision is asked for on a device, checked as the platform would check it. */

import type { Asked } from "../documents.js";
import { checkContext, checkExclude, checkText, type Context } from "../event-fields.js";

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
export function requestOf(asked: EdgeAsked): Request {
  checkText("unit", asked.unit);
  checkText("request_id", asked.request_id);
  const context = checkContext(asked.context);
  return { unit: asked.unit ?? null, context, requestId: asked.request_id ?? null, exclude: checkExclude(asked.exclude) };
}

/** The same members, in whichever order. */
export function alike(left: Context | null, right: Context | null): boolean {
  if (left === null || right === null) return left === right;
  const names = Object.keys(left);
  return names.length === Object.keys(right).length && names.every((name) => Object.hasOwn(right, name) && left[name] === right[name]);
}
