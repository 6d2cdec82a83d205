/*
 * command.h
 *		The check of a setting of the provider "command".
 */
#ifndef PHI_COMMAND_H
#define PHI_COMMAND_H

#include "utils/guc.h"

extern bool phi_check_key_name(char **newval, void **extra, GucSource source);

#endif							/* PHI_COMMAND_H */
