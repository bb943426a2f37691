/** Network namespace: a loopback interface and nothing else (network_namespaces(7)). */

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import * as sandbox from "./sandbox.ts";

/** What a program sees of its network. */
interface Seen {
  readonly interfaces: readonly string[];
  readonly flags: number;
  readonly ipv4: string;
  readonly netmask: string;
  readonly ipv6: readonly string[];
  readonly routes: readonly string[];
  readonly talks: Readonly<Record<string, string>>;
  readonly away: string;
}

const LOOK = `
import fcntl, socket, struct
control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def ask(request): return fcntl.ioctl(control, request, struct.pack("40s", b"lo"))
def address(request): return socket.inet_ntoa(ask(request)[20:24])
def talk(family, host):
    server = socket.socket(family, socket.SOCK_STREAM)
    server.bind((host, 0)); server.listen(1)
    client = socket.create_connection(server.getsockname()[:2], 5)
    peer, _ = server.accept()
    client.sendall(b"hello")
    return peer.recv(5).decode()
def away():
    try:
        control.connect(("192.0.2.1", 53)); return "connected"
    except OSError as error:
        return errno.errorcode[error.errno]
print(json.dumps({
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "flags": struct.unpack("H", ask(0x8913)[16:18])[0],
    "ipv4": address(0x8915), "netmask": address(0x891b),
    "ipv6": [line.split() [0] + "/" + str(int(line.split()[2], 16)) for line in open("/proc/net/if_inet6")],
    "routes": open("/proc/net/route").read().splitlines()[1:],
    "talks": {"127.0.0.1": talk(socket.AF_INET, "127.0.0.1"), "127.8.9.10": talk(socket.AF_INET, "127.8.9.10"), "::1": talk(socket.AF_INET6, "::1")},
    "away": away(),
}))`;

const CONNECT = `
import socket
client = socket.socket(socket.AF_UNIX)
client.settimeout(5)
try:
    client.connect("\\0" + sys.argv[1]); print(json.dumps("connected"))
except OSError as error:
    print(json.dumps(errno.errorcode[error.errno]))`;

describe.each(sandbox.CALLERS)("started by %s", (caller) => {
  test("lo is up with 127.0.0.1/8 and ::1/128, and there is nothing else", () => {
    const seen = sandbox.python(caller, [], LOOK) as Seen;
    expect(seen.interfaces).toEqual(["lo"]);
    expect(seen.flags & 1).toBe(1); // IFF_UP
    expect([seen.ipv4, seen.netmask]).toEqual(["127.0.0.1", "255.0.0.0"]);
    expect(seen.ipv6).toEqual([`${"1".padStart(32, "0")}/128`]);
    expect(seen.routes).toEqual([]);
    expect(seen.talks).toEqual({ "127.0.0.1": "hello", "127.8.9.10": "hello", "::1": "hello" });
    expect(seen.away).toBe("ENETUNREACH");
  });

  test("the namespace is new; with --network host it is the caller's", async () => {
    const root = sandbox.makeRoot();
    await using running = await sandbox.start(caller, [], root);
    expect(sandbox.namespaceOf(running.program, "net")).not.toBe(sandbox.namespaceOf("self", "net"));
    expect(sandbox.namespaceOf(running.program, "net")).toBe(sandbox.namespaceOf(running.init, "net"));
    await using shared = await sandbox.start(caller, ["--network", "host"], root);
    expect(sandbox.namespaceOf(shared.program, "net")).toBe(sandbox.namespaceOf("self", "net"));
  });

  test("a server of the host is out of reach, by abstract name and by port", async () => {
    const name = `hutch-test-${process.pid}-${caller}`;
    using abstract = Bun.listen({ unix: `\0${name}`, socket: { data: () => {} } });
    using tcp = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
    expect(readFileSync("/proc/net/unix", "utf8")).toContain(`@${name}`);
    const connect = (...options: string[]) =>
      sandbox.python(caller, options, CONNECT.replace("sys.argv[1]", JSON.stringify(name))) as string;
    expect(connect()).toBe("ECONNREFUSED");
    expect(connect("--network", "host")).toBe("EPERM"); // landlock's scope (ABI 6)
    expect(connect("--network", "host", "--security", "none")).toBe("connected"); // so the name is right
    const port = (...options: string[]) =>
      sandbox.python(
        caller,
        options,
        `import socket\nprint(json.dumps(socket.socket().connect_ex(("127.0.0.1", ${tcp.port}))))`,
      ) as number;
    expect(port()).toBe(111);
    expect(port("--network", "host")).toBe(0);
    expect(abstract.unix).toContain(name);
  });

  test("the program cannot change its network", () => {
    const code = `
import fcntl, socket, struct
try:
    fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH22x", b"lo", 0)); print(json.dumps("changed"))
except OSError as error:
    print(json.dumps(errno.errorcode[error.errno]))`;
    expect(sandbox.python(caller, [], code) as string).toBe("EPERM");
    expect(sandbox.python(caller, ["--network", "host"], code) as string).toBe("EPERM");
  });
});
