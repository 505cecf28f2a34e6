/** What can go wrong with a call. */

/** A wrong field, as a dotted path, and what was expected of it. */
export interface FieldError {
  readonly field: string;
  readonly message: string;
}

/** Anything that this client throws by itself. */
export class NoregretError extends Error {
  override name = "NoregretError";
}

/** Nobody answered. `maybeDone`: the request may have been carried out all the same. */
export class Unreachable extends NoregretError {
  override name = "Unreachable";
  constructor(
    message: string,
    readonly maybeDone: boolean,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The call's own time was over before an answer was there. */
export class DeadlineExceeded extends Unreachable {
  override name = "DeadlineExceeded";
}

/** A problem document (RFC 9457) of the platform. `retryAfter` is in milliseconds. */
export class Problem extends NoregretError {
  override name = "Problem";
  constructor(
    readonly status: number,
    readonly type: string,
    readonly title: string,
    readonly detail: string,
    readonly errors: readonly FieldError[],
    readonly retryAfter: number | null,
  ) {
    super(detail ? `${status} ${title}: ${detail}` : `${status} ${title}`);
  }

  /** The first field that is wrong, null where no field is. */
  get field(): string | null {
    return this.errors[0]?.field ?? null;
  }

  /** What was expected of that field. */
  get expected(): string | null {
    return this.errors[0]?.message ?? null;
  }
}

/** 400, 408, 413, 415, 422: the request can't be used as it is. */
export class InvalidRequest extends Problem {
  override name = "InvalidRequest";
}

/** 401, 403: the key is missing or wrong, or lacks a scope. */
export class NotAuthorized extends Problem {
  override name = "NotAuthorized";
}

/** 404 */
export class NotFound extends Problem {
  override name = "NotFound";
}

/** 409: the present state does not allow it. */
export class Conflict extends Problem {
  override name = "Conflict";
}

/** 429 and 5xx: the platform, or what stands before it, can't answer now. */
export class PlatformUnavailable extends Problem {
  override name = "PlatformUnavailable";
}

/** A refusal as an error, also where a proxy answered it that knows no problem documents. */
export function problemOf(status: number, statusText: string, body: string, retryAfter: string | null): Problem {
  let document: { type?: unknown; title?: unknown; detail?: unknown; errors?: unknown } = {};
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed === "object" && parsed !== null) document = parsed;
  } catch {
    document = { detail: body.slice(0, 200) };
  }
  const text = (value: unknown, otherwise: string): string => (typeof value === "string" ? value : otherwise);
  const seconds = retryAfter === null || retryAfter.trim() === "" ? Number.NaN : Number(retryAfter);
  return new (kindOf(status))(
    status,
    text(document.type, "about:blank"),
    text(document.title, statusText),
    text(document.detail, ""),
    Array.isArray(document.errors) ? (document.errors as FieldError[]) : [],
    seconds >= 0 && seconds < 86_400 ? seconds * 1000 : null,
  );
}

function kindOf(status: number): typeof Problem {
  if (status >= 500 || status === 429) return PlatformUnavailable;
  if (status === 401 || status === 403) return NotAuthorized;
  if (status === 404) return NotFound;
  if (status === 409) return Conflict;
  return InvalidRequest;
}
