/* Stands in for NVIDIA's libnvidia-ml.so.1 in tests: the cards of the text file that FAKE_NVML names, read again at
 * every call so that memory changes and cards fail over time. One line a card or MIG instance:
 *     card UUID NAME TOTAL_MIB FREE_MIB STATUS      STATUS: ok, lost, hang, trouble or unified
 *     mig  UUID NAME TOTAL_MIB FREE_MIB STATUS      an instance of the card above it
 *     process PID MIB                               on the card above it
 * A file that is missing or says "no driver" is a driver that isn't loaded; "fails 999" is one that fails so to start. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int ret;
enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9, LOST = 15, UNKNOWN = 999 };

struct entry { char uuid[96], name[96], status[16]; unsigned long long total, free; int is_mig, parent; };
struct process { unsigned pid; unsigned long long bytes; int owner; };
struct memory { unsigned long long total, free, used; };
struct process_info { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; };

static struct entry entries[64];
static struct process processes[64];
static int count, process_count, sessions;

static int load(void) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512], kind[16];
    count = process_count = 0;
    if (!file) return NO_DRIVER;
    int card = -1, failure;
    while (fgets(line, sizeof line, file)) {
        struct entry *e = &entries[count];
        struct process *p = &processes[process_count];
        unsigned long long total, available;
        if (!strncmp(line, "no driver", 9)) { fclose(file); return NO_DRIVER; }
        if (sscanf(line, "fails %d", &failure) == 1) { fclose(file); return failure; }
        if (sscanf(line, "process %u %llu", &p->pid, &p->bytes) == 2) {
            p->bytes <<= 20; p->owner = count - 1; process_count++;
        } else if (sscanf(line, "%15s %95s %95s %llu %llu %15s", kind, e->uuid, e->name, &total, &available, e->status) == 6) {
            e->total = total << 20; e->free = available << 20; e->is_mig = !strcmp(kind, "mig");
            if (!e->is_mig) card = count;
            e->parent = card; count++;
        }
    }
    fclose(file);
    return OK;
}

/* A handle is the entry's number in the file, plus one. */
static ret at(void *handle, struct entry **found) {
    if (!sessions) return UNINITIALIZED;
    int status = load(); long number = (long)handle - 1;
    if (status) return status;
    if (number < 0 || number >= count) return INVALID;
    *found = &entries[number];
    while (!strcmp((*found)->status, "hang")) { sleep(1); load(); }
    if (!strcmp((*found)->status, "trouble")) return UNKNOWN;
    return strcmp((*found)->status, "lost") ? OK : LOST;
}

ret nvmlInitWithFlags(unsigned flags) { int status = load(); if (!status) sessions++; return status; }
ret nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
ret nvmlShutdown(void) { if (!sessions) return UNINITIALIZED; sessions--; return OK; }
const char *nvmlErrorString(ret code) { return code == LOST ? "GPU is lost" : "some error"; }

ret nvmlDeviceGetCount_v2(unsigned *total) {
    if (!sessions) return UNINITIALIZED;
    int status = load(); *total = 0;
    for (int i = 0; i < count; i++) *total += !entries[i].is_mig;
    return status;
}

ret nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    struct entry *e; load();
    for (int i = 0, card = 0; i < count; i++)
        if (!entries[i].is_mig && card++ == (int)index) { *handle = (void *)(long)(i + 1); return at(*handle, &e); }
    return INVALID;
}

ret nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    struct entry *e; load();
    for (int i = 0; i < count; i++)
        if (!strcmp(entries[i].uuid, uuid)) { *handle = (void *)(long)(i + 1); return at(*handle, &e); }
    return NOT_FOUND;
}

static ret text(void *handle, char *out, unsigned length, int want_uuid) {
    struct entry *e; ret status = at(handle, &e);
    if (!status) snprintf(out, length, "%s", want_uuid ? e->uuid : e->name);
    return status;
}
ret nvmlDeviceGetUUID(void *handle, char *out, unsigned length) { return text(handle, out, length, 1); }
ret nvmlDeviceGetName(void *handle, char *out, unsigned length) { return text(handle, out, length, 0); }

ret nvmlDeviceGetMemoryInfo(void *handle, struct memory *memory) {
    struct entry *e; ret status = at(handle, &e);
    if (!status && !strcmp(e->status, "unified")) return NOT_SUPPORTED;
    if (!status) { memory->total = e->total; memory->free = e->free; memory->used = e->total - e->free; }
    return status;
}

ret nvmlDeviceGetGpuInstanceId(void *handle, unsigned *number) {
    *number = (long)handle - 2 - entries[(long)handle - 1].parent + 6; return OK;
}
ret nvmlDeviceGetComputeInstanceId(void *handle, unsigned *number) { *number = 0; return OK; }

/* As on real cards there is room for more instances than there are. */
ret nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *total) { *total = 7; return OK; }

ret nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **instance) {
    load();
    for (int i = 0, number = 0; i < count; i++)
        if (entries[i].is_mig && entries[i].parent == (long)handle - 1 && number++ == (int)index) {
            *instance = (void *)(long)(i + 1); return OK;
        }
    return NOT_FOUND;
}

ret nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *size, struct process_info *infos) {
    struct entry *e; ret status = at(handle, &e); unsigned found = 0;
    if (status) return status;
    for (int i = 0; i < process_count; i++) {
        if (processes[i].owner != (long)handle - 1) continue;
        if (infos && found < *size) {
            infos[found].pid = processes[i].pid; infos[found].used = processes[i].bytes;
            infos[found].gpu_instance = infos[found].compute_instance = 0xFFFFFFFF;
        }
        found++;
    }
    unsigned room = *size; *size = found;
    return found > room ? TOO_SMALL : OK;
}
