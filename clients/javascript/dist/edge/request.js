/** What a decision is asked for on a device, checked as the platform would check it. */
import { checkContext, checkExclude, checkText } from "../event-fields.js";
/** Throws TypeError for what the platform would not take. */
export function requestOf(asked) {
    checkText("unit", asked.unit);
    checkText("request_id", asked.request_id);
    const context = checkContext(asked.context);
    return { unit: asked.unit ?? null, context, requestId: asked.request_id ?? null, exclude: checkExclude(asked.exclude) };
}
/** The same members, in whichever order. */
export function alike(left, right) {
    if (left === null || right === null)
        return left === right;
    const names = Object.keys(left);
    return names.length === Object.keys(right).length && names.every((name) => Object.hasOwn(right, name) && left[name] === right[name]);
}
