/** What a registry answered instead of content, or that it did not answer at all. */

import { HutchError } from "../errors.ts";

type ErrorDetail = { hint?: string; from?: string; cause?: unknown };

export class RegistryError extends HutchError {
  override name = "RegistryError";
  /** HTTP status, undefined when there was no answer. */
  readonly status: number | undefined;
  /**
   * Why there is no answer. "unreachable": nobody is there (DNS failure, refused, no route, or silence). "broken":
   * somebody is, but the connection came to nothing (TLS refused, broken off, no HTTP). An answer of any status is neither.
   */
  readonly connection: "unreachable" | "broken" | undefined;

  constructor(
    message: string,
    detail: { status?: number; connection?: RegistryError["connection"] | undefined } & ErrorDetail = {},
  ) {
    super(message, detail);
    this.status = detail.status;
    this.connection = detail.connection;
  }
}

/** `code: message` of each error in a registry's answer (distribution-spec "Error Codes"), or "". */
export function formatRegistryErrors(body: string): string {
  try {
    const parsed = JSON.parse(body) as { errors?: unknown };
    if (!Array.isArray(parsed.errors)) return "";
    return parsed.errors
      .slice(0, 5)
      .map((item: { code?: unknown; message?: unknown }) =>
        [item.code, item.message].filter((part) => typeof part === "string" && part !== ""),
      )
      .map((parts) =>
        parts
          .join(": ")
          .replaceAll(/\p{Cc}+/gu, " ")
          .slice(0, 300),
      )
      .filter((text) => text !== "")
      .join("; ");
  } catch {
    return "";
  }
}
