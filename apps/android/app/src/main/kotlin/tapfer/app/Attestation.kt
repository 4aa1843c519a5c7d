package tapfer.app

import android.security.keystore.KeyGenParameterSpec
import android.security.keystore.KeyProperties
import java.security.KeyPairGenerator
import java.security.KeyStore
import java.security.spec.ECGenParameterSpec

/**
 * Evidence of what this phone is: a key that the Android Keystore makes for a challenge of the platform's,
 * and the chain of certificates in which its manufacturer says so. Which verdict follows, the platform
 * decides; the phone only fetches the chain.
 */
object Attestation {
    private const val ALIAS = "tapfer-attestation"

    /**
     * The chain, DER, the key's own certificate first. [challenge] is what the wallet makes of the
     * platform's (`attestationChallenge`): it names this phone's key, and nothing from outside may take its
     * place. Takes a second: call it in the background.
     */
    fun chain(challenge: ByteArray): List<ByteArray> {
        val keystore = KeyStore.getInstance("AndroidKeyStore").apply { load(null) }
        // A challenge fits one key, so there is a new key each time.
        keystore.deleteEntry(ALIAS)
        val rules = KeyGenParameterSpec.Builder(ALIAS, KeyProperties.PURPOSE_SIGN)
            .setAlgorithmParameterSpec(ECGenParameterSpec("secp256r1"))
            .setDigests(KeyProperties.DIGEST_SHA256)
            .setAttestationChallenge(challenge)
            .build()
        KeyPairGenerator.getInstance(KeyProperties.KEY_ALGORITHM_EC, "AndroidKeyStore").run {
            initialize(rules)
            generateKeyPair()
        }
        return keystore.getCertificateChain(ALIAS).map { it.encoded }
    }
}
