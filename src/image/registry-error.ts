/** What a registry answered instead of content, or that it did not answer at all. */

import { HutchError } from "../errors.ts";

export class RegistryError extends HutchError {
  override name = "RegistryError";
  /** HTTP status, undefined when there was no answer. */
  readonly status: number | undefined;
  /** No answer at all: DNS failure, refused, no route, or silence. An answer of any status is not this. */
  readonly unreachable: boolean;

  constructor(
    message: string,
    detail: { status?: number; unreachable?: boolean; hint?: string; from?: string; cause?: unknown } = {},
  ) {
    super(message, detail);
    this.status = detail.status;
    this.unreachable = detail.unreachable ?? false;
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
