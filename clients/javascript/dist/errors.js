/** What can go wrong with a call. */
/** Anything that this client throws by itself. */
export class NoregretError extends Error {
    name = "NoregretError";
}
/** Nobody answered. `maybeDone`: the request may have been carried out all the same. */
export class Unreachable extends NoregretError {
    maybeDone;
    name = "Unreachable";
    constructor(message, maybeDone, options) {
        super(message, options);
        this.maybeDone = maybeDone;
    }
}
/** The call's own time was over before an answer was there. */
export class DeadlineExceeded extends Unreachable {
    name = "DeadlineExceeded";
}
/** A problem document (RFC 9457) of the platform. `retryAfter` is in milliseconds. */
export class Problem extends NoregretError {
    status;
    type;
    title;
    detail;
    errors;
    retryAfter;
    name = "Problem";
    constructor(status, type, title, detail, errors, retryAfter) {
        super(detail ? `${status} ${title}: ${detail}` : `${status} ${title}`);
        this.status = status;
        this.type = type;
        this.title = title;
        this.detail = detail;
        this.errors = errors;
        this.retryAfter = retryAfter;
    }
    /** The first field that is wrong, null where no field is. */
    get field() {
        return this.errors[0]?.field ?? null;
    }
    /** What was expected of that field. */
    get expected() {
        return this.errors[0]?.message ?? null;
    }
}
/** 400, 408, 413, 415, 422: the request can't be used as it is. */
export class InvalidRequest extends Problem {
    name = "InvalidRequest";
}
/** 401, 403: the key is missing or wrong, or lacks a scope. */
export class NotAuthorized extends Problem {
    name = "NotAuthorized";
}
/** 404 */
export class NotFound extends Problem {
    name = "NotFound";
}
/** 409: the present state does not allow it. */
export class Conflict extends Problem {
    name = "Conflict";
}
/** 429 and 5xx: the platform, or what stands before it, can't answer now. */
export class PlatformUnavailable extends Problem {
    name = "PlatformUnavailable";
}
/** A refusal as an error, also where a proxy answered it that knows no problem documents. */
export function problemOf(status, statusText, body, retryAfter) {
    let document = {};
    try {
        const parsed = JSON.parse(body);
        if (typeof parsed === "object" && parsed !== null)
            document = parsed;
    }
    catch {
        document = { detail: body.slice(0, 200) };
    }
    const text = (value, otherwise) => (typeof value === "string" ? value : otherwise);
    const seconds = retryAfter === null || retryAfter.trim() === "" ? Number.NaN : Number(retryAfter);
    return new (kindOf(status))(status, text(document.type, "about:blank"), text(document.title, statusText), text(document.detail, ""), Array.isArray(document.errors) ? document.errors : [], seconds >= 0 && seconds < 86_400 ? seconds * 1000 : null);
}
function kindOf(status) {
    if (status >= 500 || status === 429)
        return PlatformUnavailable;
    if (status === 401 || status === 403)
        return NotAuthorized;
    if (status === 404)
        return NotFound;
    if (status === 409)
        return Conflict;
    return InvalidRequest;
}
