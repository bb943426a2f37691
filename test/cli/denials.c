// What a program sees of calls that its sandbox refuses, in the words of its first argument.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

// NR[:ARGUMENT…] each: the call's number and its error number, or what it has returned.
static int calls(char **words) {
  for (; *words != NULL; words++) {
    long number[7] = {0};
    char *at = *words;
    for (int i = 0; i < 7; i++) {
      number[i] = (long)strtoull(at, &at, 0);
      if (*at++ != ':') break;
    }
    errno = 0;
    long result = syscall(number[0], number[1], number[2], number[3], number[4], number[5], number[6]);
    printf("%s %ld\n", *words, result == -1 ? -errno : result);
  }
  return 0;
}

static long times;
static long wrong;

static int refused(void) { return syscall(SYS_bpf, 5, 0, 0) == -1 && errno == EPERM; }

static void *many(void *unused) {
  (void)unused;
  for (long i = 0; i < times; i++)
    if (!refused()) __atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

// PROCESSES THREADS TIMES: so many refused calls in each thread of each process.
static int storm(int processes, int threads) {
  for (int p = 0; p < processes; p++) {
    if (fork() != 0) continue;
    pthread_t thread[64];
    for (int t = 0; t < threads; t++)
      if (pthread_create(&thread[t], NULL, many, NULL) != 0) _exit(2);
    for (int t = 0; t < threads; t++) pthread_join(thread[t], NULL);
    _exit(wrong == 0 ? 0 : 1);
  }
  int status, bad = 0;
  while (wait(&status) > 0) bad |= status;
  printf("%s\n", bad == 0 ? "as it should be" : "other errors");
  return bad != 0;
}

// N kinds of calls, then one of the first kind.
static int kinds(long n) {
  for (long i = 0; i < n; i++)
    if (syscall(SYS_socket, 17, 3, i) != -1 || errno != EAFNOSUPPORT) return 1;
  return syscall(SYS_socket, 17, 3, 0) == -1 && errno == EAFNOSUPPORT ? 0 : 1;
}

// Refused calls for ever; a line when one gets another answer.
static _Noreturn void watch(void) {
  printf(refused() ? "watching\n" : "another answer at once\n");
  fflush(stdout);
  for (;;)
    if (!refused()) {
      printf("another answer: %d\n", errno);
      fflush(stdout);
    }
}

static void onAlarm(int signal) { (void)signal; }

// Refused calls while signals come: with SA_RESTART no call is interrupted.
static int alarms(void) {
  struct sigaction action = {.sa_handler = onAlarm, .sa_flags = SA_RESTART};
  struct itimerval often = {{0, 150}, {0, 150}};
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &often, NULL);
  many(NULL);
  printf("%ld other answers\n", wrong);
  return 0;
}

static long install(unsigned int flags, unsigned int action) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_acct, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {4, code};
  long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  return result == -1 ? -errno : result;
}

// Filters of the program's own.
static int filters(void) {
  printf("listener %ld\n", install(SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_RET_USER_NOTIF));
  printf("filter %ld\n", install(0, SECCOMP_RET_ERRNO | 99));
  printf("its own %d\n", syscall(SYS_acct, 0) == -1 ? errno : 0);
  printf("ours %d\n", refused());
  fflush(stdout);
  if (fork() == 0) _exit(refused() ? 0 : 1);
  int status = -1;
  wait(&status);
  printf("a child's %d\n", status);
  return 0;
}

int main(int count, char **words) {
  const char *mode = count > 1 ? words[1] : "";
  long number[3] = {0};
  for (int i = 0; i < 3 && i + 2 < count; i++) number[i] = atol(words[i + 2]);
  times = number[2];
  if (strcmp(mode, "calls") == 0) return calls(words + 2);
  if (strcmp(mode, "storm") == 0) return storm((int)number[0], (int)number[1]);
  if (strcmp(mode, "kinds") == 0) return kinds(number[0]);
  if (strcmp(mode, "watch") == 0) watch();
  if (strcmp(mode, "filters") == 0) return filters();
  if (strcmp(mode, "alarms") == 0) {
    times = number[0];
    return alarms();
  }
  return 3;
}
