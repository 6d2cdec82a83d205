/*
 * guc.h
 *		The extension's settings, all named phi.*.
 */
#ifndef PHI_GUC_H
#define PHI_GUC_H

typedef enum PhiHiddenValue
{
	PHI_HIDDEN_ERROR,
	PHI_HIDDEN_NULL
} PhiHiddenValue;

typedef enum PhiResultAsBase
{
	PHI_RESULT_AUTO,
	PHI_RESULT_ON,
	PHI_RESULT_OFF
} PhiResultAsBase;

/* Indexes of the table of providers in keys/master.c. */
enum
{
	PHI_PROVIDER_FILE,
	PHI_PROVIDER_COMMAND,
	PHI_PROVIDER_CUSTODIAN
};

extern int	phi_suite;
extern int	phi_key_provider;
extern char *phi_key_directory;
extern char *phi_key_command;
extern char *phi_key_name;
extern int	phi_key_command_timeout;	/* ms */
extern int	phi_custodian_threshold;
extern int	phi_keyring_size;
extern int	phi_compress_above;
extern int	phi_hidden_value;
extern int	phi_result_as_base;
extern bool phi_allow_ordered_index;
extern bool phi_allow_core_dumps;
extern bool phi_require_approval;
extern int	phi_approval_timeout;
extern int	phi_rotation_interval;
extern int	phi_checkpoint_interval;	/* ms */
extern char *phi_checkpoint_command;
extern int	phi_audit_volume_limit;		/* MB; 0: none */

extern void phi_guc_init(void);

#endif							/* PHI_GUC_H */
