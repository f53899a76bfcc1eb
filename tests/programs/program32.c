// A 32-bit program without a library: opens a file and ends.
void _start(void) {
    static const char name[] = "/w/opened-by-32";
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(5), "b"(name), "c"(0), "d"(0) : "memory");
    __asm__ volatile("int $0x80" ::"a"(1), "b"(0));
}
