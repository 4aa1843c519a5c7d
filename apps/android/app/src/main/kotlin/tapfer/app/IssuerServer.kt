package tapfer.app

import org.json.JSONObject
import tapfer.phone.Enrolment
import tapfer.phone.Issuer
import tapfer.phone.Platform

/**
 * The issuer's own server, as this sample expects it: `POST /enrol` with the registration as the body and
 * the code that the person got from the issuer as the bearer. It answers with an [Enrolment] as JSON. An
 * issuer that logs people in another way replaces this class.
 */
class IssuerServer(private val address: String, private val code: String) : Issuer {
    override fun register(registration: String): Enrolment {
        val asked = JSONObject().put("registration", JSONObject(registration)).toString()
        return Enrolment.fromJson(Platform(address, code).post("/enrol", asked))
    }
}
