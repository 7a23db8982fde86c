#define _GNU_SOURCE /* setresuid */
#include "privs.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NOBODY = 65534, CAPS_MAX = 64 };

static int get_caps(uint64_t *permitted)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	*permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	return 0;
}

static int set_caps(uint64_t caps)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
	        {.effective = (uint32_t)caps, .permitted = (uint32_t)caps},
	        {.effective = (uint32_t)(caps >> 32), .permitted = (uint32_t)(caps >> 32)}};

	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int change_user(void)
{
	struct passwd *nobody = getpwnam("nobody");
	uid_t uid = nobody ? nobody->pw_uid : NOBODY;
	gid_t gid = nobody ? nobody->pw_gid : NOBODY;

	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return -errno;
	return 0;
}

int privs_drop(uint64_t keep)
{
	uint64_t permitted = 0;
	int err = get_caps(&permitted);

	if (err)
		return err;
	/* Needs CAP_SETPCAP, which is not kept; where it is missing the set below and no_new_privs still hold. */
	for (int cap = 0; cap < CAPS_MAX && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(keep & PRIVS_CAP(cap)))
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (geteuid() == 0) {
		if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
			return -errno;
		err = change_user();
		if (err)
			return err;
	}
	err = set_caps(keep & permitted);
	prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	/* A change of user sets it to what fs.suid_dumpable says. */
	privs_hide_memory();
	return err;
}

void privs_hide_memory(void)
{
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
