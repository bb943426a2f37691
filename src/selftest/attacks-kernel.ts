/** Attacks by way of system calls: namespaces, other processes, sockets, rare parts of the kernel. */

import * as c from "../libc/constants.ts";
import { content } from "../launch/assembler.ts";
import type { Attack, Attempt } from "./attempt.ts";

const PTRACE_SEIZE = 0x4206; // unlike PTRACE_ATTACH it stops nobody
const PR_GET_NO_NEW_PRIVS = 39;
const X32_BIT = 0x40000000;
const SOCK_STREAM = 1;
const SOCK_RAW = 3;
const NETLINK_XFRM = 6;
const KEYRING_PROCESS = -2;
const SYSLOG_SIZE_BUFFER = 10;
const UFFD_USER_MODE_ONLY = 1;

const REFUSED = ["EPERM", "ENOSYS"];
const NO_SOCKET = ["EAFNOSUPPORT", "EPROTONOSUPPORT", "EPERM"];

/** One call that must be refused. */
function calling(
  number: string,
  name: string,
  expected: readonly string[],
  build: (attempt: Attempt) => unknown,
): Attack {
  return { number, name, expected, build: (attempt) => void build(attempt) };
}

function socket(name: string, family: number, type: number, protocol = 0): Attack {
  return calling("B27", `open a socket of ${name}`, NO_SOCKET, ({ call }) => call("socket", family, type, protocol));
}

/** Connect a TCP or abstract UNIX socket. */
function connecting(name: string, expected: readonly string[], address: (attempt: Attempt) => Uint8Array): Attack {
  return calling("B33", name, expected, (attempt) => {
    const bytes = address(attempt);
    const file = attempt.call("socket", bytes[0] ?? 0, SOCK_STREAM, 0);
    attempt.call("connect", content(file), bytes, bytes.length);
  });
}

const NAMESPACES: readonly Attack[] = [
  ...(["user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time"] as const).map((name) =>
    calling("B17", `unshare a ${name} namespace`, [...REFUSED, "ENOSPC"], ({ call }) =>
      call("unshare", c.CLONE_FLAGS[name]),
    ),
  ),
  calling("B17", "clone with a user namespace", [...REFUSED, "ENOSPC"], ({ call }) =>
    call("clone", c.CLONE_FLAGS.user | c.SIGNALS.SIGCHLD, 0, 0, 0, 0),
  ),
  calling("B17", "clone3, whose flags no filter can see", ["ENOSYS"], ({ asm, call }) => {
    const request = new Uint8Array(88); // struct clone_args: flags, then exit_signal at 32
    new DataView(request.buffer).setUint32(0, c.CLONE_FLAGS.user, true);
    request[32] = c.SIGNALS.SIGCHLD;
    return call("clone3", asm.data(request), request.length);
  }),
];

const PROCESSES: readonly Attack[] = [
  calling("B21", "trace PID 1", ["EPERM", "ESRCH"], ({ call }) => call("ptrace", PTRACE_SEIZE, 1, 0, 0)),
  calling("B21", "read the memory of PID 1", ["EPERM", "ESRCH"], ({ asm, call }) => {
    const local = new Uint8Array(16);
    local[8] = 8;
    const remote = new Uint8Array(16);
    new DataView(remote.buffer).setUint32(0, 0x400000, true);
    remote[8] = 8;
    return call("process_vm_readv", 1, asm.pointing(local, 0, asm.cell()), 1, asm.data(remote), 1, 0);
  }),
  calling("B21", "write the memory of PID 1", ["EACCES", "EPERM"], ({ open }) => open("/proc/1/mem", c.O_RDWR)),
  calling("B21", "take a descriptor of PID 1", ["EPERM", "EBADF"], ({ call }) => {
    const pid = call("pidfd_open", 1, 0);
    return call("pidfd_getfd", content(pid), 0, 0);
  }),
  calling("B24", "gain rights by a setuid program", ["EPERM"], ({ asm, call }) => {
    const locked = asm.label();
    const value = call("prctl", PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    asm.ifEqual(content(value), 0, locked); // not set: the attack would have worked
    asm.set(value, 1);
    asm.call("exit_group", [content(value)], { onError: "ignore" }); // EPERM
    asm.place(locked);
  }),
  // Signal 0 asks only whether it could be sent.
  calling("B25", "signal everybody", ["ESRCH", "EPERM"], ({ call }) => call("kill", -1, 0)),
  {
    ...calling("B25", "signal what is outside of the program (PID 1)", ["EPERM"], ({ call }) => call("kill", 1, 0)),
    landlock: 6,
  },
  calling("B35", "keep the caller's groups", ["nothing"], ({ asm, call, nothing }) => {
    const [own, one, several] = [asm.label(), asm.label(), asm.label()];
    const list = asm.cell(4 * 65536);
    const count = call("getgroups", 65536, list);
    asm.ifEqual(content(count), 0, own);
    asm.ifEqual(content(count), 1, one);
    asm.jump(several);
    asm.place(one); // the program's own group, once more
    const group = call("getegid");
    const first = asm.cell();
    asm.call("load64", [list, 0], { result: first });
    asm.ifEqual(content(first), content(group), own);
    asm.jump(several);
    asm.place(own);
    nothing();
    asm.place(several);
  }),
  calling("B29", "make data executable (READ_IMPLIES_EXEC)", ["EPERM"], ({ call }) => call("personality", 0x400000)),
  calling("B29", "make addresses known (ADDR_NO_RANDOMIZE)", ["EPERM"], ({ call }) => call("personality", 0x40000)),
  {
    number: "B28",
    name: "call as i386 (int 0x80)",
    expected: ["killed", "signal 11"], // SIGSEGV: the kernel is without this entry
    arch: "x64",
    // mov eax, 20 (getpid); int 0x80; xor edi, edi; mov eax, 231 (exit_group); syscall
    code: Uint8Array.of(0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0x31, 0xff, 0xb8, 231, 0, 0, 0, 0x0f, 0x05),
    build: () => {},
  },
  {
    ...calling("B28", "call as x32", ["killed", "ENOSYS"], ({ asm }) => asm.call(X32_BIT | 39, [])),
    arch: "x64",
  },
];

const RARE: readonly Attack[] = [
  calling("B26", "load a program into the kernel (bpf)", ["EPERM"], ({ asm, call }) =>
    call("bpf", 5, asm.cell(128), 128),
  ),
  calling("B26", "make a bpf map", ["EPERM"], ({ asm, call }) => {
    const request = new Uint8Array(72); // BPF_MAP_CREATE: an array of one 8-byte value by 4-byte keys
    new Uint32Array(request.buffer).set([2, 4, 8, 1]);
    return call("bpf", 0, asm.data(request), request.length);
  }),
  calling("B26", "count events (perf_event_open)", ["EPERM"], ({ asm, call }) => {
    const request = new Uint8Array(120); // PERF_TYPE_SOFTWARE, its size, PERF_COUNT_SW_DUMMY, not the kernel's
    const view = new DataView(request.buffer);
    view.setUint32(0, 1, true);
    view.setUint32(4, request.length, true);
    view.setUint32(8, 9, true);
    view.setUint32(40, 0x60, true);
    return call("perf_event_open", asm.data(request), 0, -1, -1, 0);
  }),
  calling("B26", "hold page faults (userfaultfd)", ["EPERM"], ({ call }) => call("userfaultfd", UFFD_USER_MODE_ONLY)),
  calling("B26", "set up io_uring", REFUSED, ({ asm, call }) => call("io_uring_setup", 1, asm.cell(120))),
  calling("B26", "load another kernel (kexec_load)", ["EPERM"], ({ call }) => call("kexec_load", 0, 0, 0, 0)),
  calling("B26", "load a module (init_module)", ["EPERM"], ({ asm, call }) => call("init_module", asm.cell(), 8, "")),
  calling("B26", "look for a keyring (keyctl)", REFUSED, ({ call }) => call("keyctl", 0, KEYRING_PROCESS, 1)),
  calling("B26", "add a key", REFUSED, ({ call }) =>
    call("add_key", "user", "hutch-selftest", "x", 1, KEYRING_PROCESS),
  ),
  calling("B26", "ask for disk quotas", ["EPERM"], ({ asm, call }) => call("quotactl", 0x80000100, 0, 0, asm.cell(64))),
  calling("B26", "account for processes (acct)", ["EPERM"], ({ call }) => call("acct", 0)),
  calling("B26", "read the kernel's log (syslog)", ["EPERM"], ({ call }) => call("syslog", SYSLOG_SIZE_BUFFER, 0, 0)),
  calling("B26", "open a file by handle", ["EPERM"], ({ asm, call, open }) => {
    const handle = asm.cell(16);
    asm.set(handle, 8);
    return call("open_by_handle_at", content(open("/")), handle, 0);
  }),
  calling("B26", "swap to a file", ["EPERM"], ({ call }) => call("swapon", "/tmp/none", 0)),
  calling("B26", "end the machine (reboot)", ["EPERM"], ({ call }) =>
    // LINUX_REBOOT_CMD_CAD_OFF: harmless, should it ever get through
    call("reboot", 0xfee1dead, 672274793, 0, 0),
  ),
  calling("B26", "set the clock", ["EPERM"], ({ asm, call }) => call("clock_settime", 0, asm.words(-1, -1))),
];

const SOCKETS: readonly Attack[] = [
  socket("AF_PACKET", 17, SOCK_RAW),
  socket("AF_KEY", 15, SOCK_RAW, 2),
  socket("AF_BLUETOOTH", 31, SOCK_RAW),
  socket("AF_RXRPC", 33, 2),
  socket("AF_ALG", 38, 5),
  socket("AF_VSOCK", 40, SOCK_STREAM),
  socket("AF_XDP", 44, SOCK_RAW),
  socket("NETLINK_XFRM", 16, SOCK_RAW, NETLINK_XFRM),
  connecting("connect to an abstract socket of the host", ["ECONNREFUSED", "EPERM"], ({ bait }) =>
    Uint8Array.of(1, 0, 0, ...new TextEncoder().encode(bait.abstractName)),
  ),
  connecting("connect to a TCP service of the host", ["ECONNREFUSED", "EACCES", "ENETUNREACH"], ({ bait }) =>
    Uint8Array.of(2, 0, bait.port >> 8, bait.port & 0xff, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0),
  ),
  connecting("connect to the metadata service", ["ENETUNREACH", "EACCES"], () =>
    Uint8Array.of(2, 0, 0, 80, 169, 254, 169, 254, 0, 0, 0, 0, 0, 0, 0, 0),
  ),
];

export const KERNEL_ATTACKS: readonly Attack[] = [...NAMESPACES, ...PROCESSES, ...RARE, ...SOCKETS];
