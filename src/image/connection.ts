/** The way to a registry's host: https, or http where that is allowed; what it is held to, and whom it may send us to. */

import { isLoopback, isPlainServer, send, type SendOptions } from "./http.ts";
import type { HostCertificates } from "./registries.ts";

export type Transport = Pick<SendOptions, "tls" | "firstByte" | "plainAllowed">;

/** Host with its port, and whether its certificate need not verify and plain http will do. */
export type RegistryHost = { readonly host: string; readonly insecure: boolean };

/** True when a URL is of the host (with port) of an endpoint. */
function isHost(url: URL, host: string): boolean {
  return url.host === new URL(`${url.protocol}//${host}`).host;
}

/** The leniency for an insecure registry is for itself only. `firstByte` in milliseconds. */
export function registryTransport(
  { host, insecure }: RegistryHost,
  certificates: (host: string) => HostCertificates,
  firstByte: number,
): Transport {
  return {
    tls: (url) => ({ insecure: insecure && isHost(url, host), ...certificates(url.host) }),
    firstByte,
    plainAllowed: (url) => isLoopback(url.hostname) || (insecure && isHost(url, host)),
  };
}

/**
 * `https://HOST/`, or `http://HOST/` where that is allowed and the other does not answer TLS; and whether it has answered
 * just now. @throws RegistryError when it was asked and cannot be reached
 */
export async function registryBase(
  { host, insecure }: RegistryHost,
  transport: Transport,
): Promise<{ readonly base: URL; readonly answered: boolean }> {
  const secure = new URL(`https://${host}/`);
  if (!insecure && !isLoopback(secure.hostname)) return { base: secure, answered: false };
  try {
    const probe = await send(new URL("v2/", secure), transport);
    await probe.body?.cancel();
    return { base: secure, answered: true };
  } catch (error) {
    if (!isPlainServer(error)) throw error;
    return { base: new URL(`http://${host}/`), answered: false };
  }
}
