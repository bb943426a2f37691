/*
 * Builds filters with libseccomp from a list on stdin, for comparison. Lines:
 *   arch x64|arm64            begins a filter
 *   default ACTION            raw numbers, decimal
 *   rule ACTION NAME N [INDEX OP VALUE VALUE_TWO]...
 *   end                       writes u32 length and the sock_filter array to stdout
 *   resolve x64|arm64 NAME    writes the number as i32
 * NAME is a name or, for x64, a number. Any failure ends the program with a message.
 */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char arch[16];
static scmp_filter_ctx filter;

static void die(const char *what, const char *detail, int error) {
  fprintf(stderr, "libseccomp: %s %s: %s\n", what, detail, strerror(error < 0 ? -error : error));
  exit(1);
}

static char *word(void) {
  char *token = strtok(NULL, " \n");
  if (!token) die("short line", "", EINVAL);
  return token;
}

static enum scmp_compare operator(const char *name) {
  static const char *const names[] = {"", "NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"};
  for (int i = 1; i <= 7; i++)
    if (!strcmp(names[i], name)) return i;
  die("operator", name, EINVAL);
  return 0;
}

static uint32_t token_of(const char *name) { return strcmp(name, "x64") ? SCMP_ARCH_AARCH64 : SCMP_ARCH_X86_64; }

static void begin(uint32_t action) {
  int error;
  filter = seccomp_init(action);
  if (!filter) die("init", arch, EINVAL);
  if (token_of(arch) != seccomp_arch_native()) {
    if ((error = seccomp_arch_add(filter, token_of(arch)))) die("arch_add", arch, error);
    if ((error = seccomp_arch_remove(filter, SCMP_ARCH_NATIVE))) die("arch_remove", arch, error);
  }
  if ((error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS))) die("badarch", arch, error);
}

static void rule(void) {
  struct scmp_arg_cmp args[6];
  uint32_t action = strtoul(word(), NULL, 10);
  char *name = word();
  int number = *name >= '0' && *name <= '9' ? atoi(name) : seccomp_syscall_resolve_name(name);
  unsigned count = strtoul(word(), NULL, 10);
  if (number == __NR_SCMP_ERROR) die("resolve", name, ENOENT);
  for (unsigned i = 0; i < count && i < 6; i++) {
    args[i].arg = strtoul(word(), NULL, 10);
    args[i].op = operator(word());
    args[i].datum_a = strtoull(word(), NULL, 10);
    args[i].datum_b = strtoull(word(), NULL, 10);
  }
  int error = seccomp_rule_add_array(filter, action, number, count, args);
  if (error) die("rule_add", name, error);
}

static void end(void) {
  int fd = memfd_create("bpf", 0), error = seccomp_export_bpf(filter, fd);
  if (error) die("export", arch, error);
  uint32_t length = lseek(fd, 0, SEEK_END);
  char *bytes = malloc(length);
  if (pread(fd, bytes, length, 0) != (ssize_t)length) die("read", arch, errno);
  fwrite(&length, 4, 1, stdout);
  fwrite(bytes, 1, length, stdout);
  free(bytes);
  close(fd);
  seccomp_release(filter);
}

int main(void) {
  static char line[4096];
  while (fgets(line, sizeof line, stdin)) {
    char *verb = strtok(line, " \n");
    if (!verb) continue;
    if (!strcmp(verb, "arch")) snprintf(arch, sizeof arch, "%s", word());
    else if (!strcmp(verb, "default")) begin(strtoul(word(), NULL, 10));
    else if (!strcmp(verb, "rule")) rule();
    else if (!strcmp(verb, "end")) end();
    else if (!strcmp(verb, "resolve")) {
      uint32_t token = token_of(word());
      int number = seccomp_syscall_resolve_name_arch(token, word());
      fwrite(&number, 4, 1, stdout);
    } else die("verb", verb, EINVAL);
  }
  return 0;
}
