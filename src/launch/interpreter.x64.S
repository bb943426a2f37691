# The launcher's interpreter, x86-64. It walks syscall records and does nothing else.
#
# A record is 48 bytes (see program.ts):
#   +0  op     i32  system call number, or a pseudo-op: -1 sub, -2 and, -3 load64 [a0+a1]
#   +4  mask   u32  bit i: argument i is the address of a cell whose 64-bit content is meant
#   +8  args   i32  six, sign-extended
#   +32 dest   u32  address of the cell that receives the result
#   +36 next, +40 onError, +44 onZero  u32  addresses of the records that follow
#
# The cells begin with: the record that failed last, its result (-errno), and the initial stack pointer. A pseudo-op
# never takes onError, whatever its result.
.intel_syntax noprefix
.equ RECORDS, 0x410300
.equ CELLS, 0x800000

.macro ARGUMENT register, index
	movsxd	\register, dword ptr [rbx + 8 + 4*\index]
	test	byte ptr [rbx + 4], 1 << \index
	jz	1f
	mov	\register, [\register]
1:
.endm

.globl _start
_start:
	mov	[CELLS + 16], rsp
	mov	ebx, RECORDS
loop:
	ARGUMENT rdi, 0
	ARGUMENT rsi, 1
	ARGUMENT rdx, 2
	ARGUMENT r10, 3
	ARGUMENT r8, 4
	ARGUMENT r9, 5
	movsxd	rax, dword ptr [rbx]
	test	eax, eax
	js	pseudo
	syscall
	mov	ecx, [rbx + 32]
	mov	[rcx], rax
	cmp	rax, -4095
	jae	error
branch:
	test	rax, rax
	jz	zero
	mov	ebx, [rbx + 36]
	jmp	loop
error:
	mov	[CELLS], rbx
	mov	[CELLS + 8], rax
	mov	ebx, [rbx + 40]
	jmp	loop
zero:
	mov	ebx, [rbx + 44]
	jmp	loop
pseudo:
	inc	eax
	jz	subtract
	inc	eax
	jz	conjoin
	mov	rax, [rdi + rsi]
	jmp	result
subtract:
	sub	rdi, rsi
	jmp	moved
conjoin:
	and	rdi, rsi
moved:
	mov	rax, rdi
result:
	mov	ecx, [rbx + 32]
	mov	[rcx], rax
	jmp	branch
